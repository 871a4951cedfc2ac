"""Runs as batch jobs: submitted to Slurm, KubeRay or Ray, listed, followed and stopped.

`in_process`, a module of its own, plays a run in this process."""

from pipelines.jobs._registry import active_job, follow, job_table, stop
from pipelines.jobs._submit import checked, next_job, rendered, send, unshipped

__all__ = [
    "active_job",
    "checked",
    "follow",
    "job_table",
    "next_job",
    "rendered",
    "send",
    "stop",
    "unshipped",
]
