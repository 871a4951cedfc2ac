"""KubeRay: the RayJob manifest of a run, and jobs by kubectl."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.jobs.batch import RAY_STATES, BatchError, State, find_program, run_program

TEMPLATE = Path(__file__).parents[1] / "deploy" / "rayjob.yaml"
_NO_TEXT_IN_GO = r"[yYnN]|[-+]?[\d.]+[eE][-+]?\d+|0o[0-7]+"
"""What Kubernetes reads as a truth or a number where Python reads text."""
_HINT = "install kubectl, or leave out --apply to see the RayJob"


@dataclass(frozen=True)
class Pods:
    """The pods of a job's cluster: how many workers, and what each of them has."""

    image: str
    workers: int
    """When the job starts."""
    min_workers: int
    max_workers: int
    """The autoscaler's bounds. It is off if both equal `workers`."""
    cpus: int
    gpus: int
    memory: str
    """As Kubernetes writes it: 16Gi."""
    retries: int
    """How often a failed job is started again, with a new cluster."""
    secret: str | None = None
    """The Secret with S3's credentials, which become environment variables."""
    claim: str | None = None
    """The PersistentVolumeClaim mounted at the storage path, which all pods must see."""


def ray_job(pods: Pods, job: str, run: str, play: str, storage: str, ray_version: str) -> dict[str, Any]:
    """The manifest of the RayJob `job` for the run `run`.

    `play`: the driver's shell lines, which end in `exec`. `storage`: the storage path.
    """
    manifest = yaml.safe_load(TEMPLATE.read_text())
    manifest["metadata"]["name"] = job
    manifest["metadata"]["annotations"] = {"ganfleet/name": run}
    spec = manifest["spec"]
    spec["backoffLimit"] = pods.retries
    cluster = spec["rayClusterSpec"]
    cluster["rayVersion"] = ray_version
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    head["template"]["metadata"]["annotations"]["ganfleet/run"] = play
    group |= {"replicas": pods.workers, "minReplicas": pods.min_workers, "maxReplicas": pods.max_workers}
    (worker,) = group["template"]["spec"]["containers"]
    worker["resources"] = _resources(pods)
    scales = (pods.min_workers, pods.max_workers) != (pods.workers, pods.workers)
    if scales:  # the driver cannot see nodes that the autoscaler has yet to start
        largest = {"name": "GANFLEET_NODES", "value": f"{pods.max_workers}x{pods.cpus}x{pods.gpus}"}
        head["template"]["spec"]["containers"][0]["env"].append(largest)
    else:
        del cluster["enableInTreeAutoscaling"], cluster["autoscalerOptions"]
    for template in (head["template"], group["template"]):
        _furnish(template["spec"], pods, storage)
    return manifest


def _furnish(pod: dict[str, Any], pods: Pods, storage: str) -> None:
    """Sets the image, the secret and the volume of a pod, and removes lists that stay empty."""
    (container,) = pod["containers"]
    container["image"] = pods.image
    if pods.secret is not None:
        container["envFrom"].append({"secretRef": {"name": pods.secret}})
    if pods.claim is not None:
        container["volumeMounts"].append({"name": "runs", "mountPath": storage})
        pod["volumes"].append({"name": "runs", "persistentVolumeClaim": {"claimName": pods.claim}})
    for owner, names in ((container, ("env", "envFrom", "volumeMounts")), (pod, ("volumes",))):
        for name in names:
            if not owner[name]:
                del owner[name]


def _resources(pods: Pods) -> dict[str, dict[str, str]]:
    each = {"cpu": str(pods.cpus), "memory": pods.memory}
    if pods.gpus:
        each["nvidia.com/gpu"] = str(pods.gpus)
    return {"requests": dict(each), "limits": dict(each)}


def job_name(run: str, attempt: int) -> str:
    """A job's name for Kubernetes: lower case, digits and dashes, at most 47 characters (KubeRay's limit)."""
    slug = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")[:40].rstrip("-")
    return f"{slug if slug[:1].isalpha() else f'g-{slug}'}-{attempt}"


def to_yaml(manifest: dict[str, Any]) -> str:
    """YAML as a person would write it, with a text of several lines as a block."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=1000)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if re.fullmatch(_NO_TEXT_IN_GO, text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class KubeRay:
    """The cluster that kubectl's current context names."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def submit(self, text: str, job: str) -> str:
        """Applies a manifest."""
        run_program(self._kubectl("apply", "--filename", "-", hint=_HINT), text)
        return job

    def state(self, job: str) -> State:
        """What the operator reports; `ended` if the RayJob no longer exists."""
        reply = run_program(self._kubectl("get", "rayjob", job, "--ignore-not-found", "--output", "json"))
        if not reply.strip():
            return "ended"
        status = json.loads(reply).get("status", {})
        if status.get("jobDeploymentStatus") == "Failed":
            return "failed"
        return RAY_STATES.get(status.get("jobStatus", ""), "waiting")

    def follow(self, job: str) -> Iterator[str]:
        """The output of the pod that submits the job, which is the driver's output."""
        command = self._kubectl("logs", "--follow", f"job/{job}")
        last = ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            for last in process.stdout:
                yield last
        if process.returncode:
            raise BatchError(f"kubectl logs: {last.strip()[:300] or f'exit code {process.returncode}'}")

    def stop(self, job: str) -> None:
        """Deletes the RayJob, and with it its cluster."""
        run_program(self._kubectl("delete", "rayjob", job, "--wait=false"))

    def _kubectl(self, *words: str, hint: str = "a machine with kubectl") -> list[str]:
        return [find_program("kubectl", hint), *words, "--namespace", self.namespace]
