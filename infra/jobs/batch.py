"""Batch jobs: one interface for Slurm, KubeRay and Ray's own jobs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

State = Literal["waiting", "running", "done", "failed", "stopped", "ended"]
"""`ended`: it has ended, but the place does not know how."""

RAY_STATES: dict[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "STOPPED": "stopped",
    "SUCCEEDED": "done",
    "FAILED": "failed",
}
"""By the names of Ray Jobs, which KubeRay repeats."""

ACTIVE: tuple[State, ...] = ("waiting", "running")
POLL_SECONDS = 1.0


class BatchError(Exception):
    """What a place cannot do or refuses, in one line."""


class Batch(Protocol):
    """A place where jobs run. All methods raise BatchError."""

    def submit(self, text: str, job: str) -> str:
        """Starts `text` (a script, a manifest or a command) as a job named `job`. Returns the job's id."""

    def state(self, job: str) -> State:
        """The state of the job with this id."""

    def follow(self, job: str) -> Iterator[str]:
        """The job's output from its beginning, in pieces as they come, until the job has ended."""

    def stop(self, job: str) -> None:
        """Ends the job. It has some seconds to close its runs."""


def find_program(program: str, hint: str) -> str:
    """The path of a program. Raises BatchError with `hint` if it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise BatchError(f"{program} is not installed here; nearest: {hint}")
    return path


def run_program(command: list[str], given: str | None = None, seconds: float = 60) -> str:
    """Runs a program with `given` on stdin. Returns its stdout; raises BatchError with its stderr if it fails."""
    about = f"{Path(command[0]).name} {command[1]}"
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise BatchError(f"{about} did not answer in {seconds:g} s") from None
    if done.returncode:
        message = " ".join((done.stderr or done.stdout).split())
        raise BatchError(f"{about}: {message[:300] or f'exit code {done.returncode}'}")
    return done.stdout
