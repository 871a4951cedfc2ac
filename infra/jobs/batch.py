"""Jobs that outlive the shell they are typed in: one interface for Slurm, KubeRay and Ray's own jobs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

State = Literal["waiting", "running", "done", "failed", "stopped", "ended"]
"""`ended`: the place has forgotten how."""

ACTIVE: tuple[State, ...] = ("waiting", "running")
POLL_SECONDS = 1.0


class BatchError(Exception):
    """What a place cannot do, or refuses: one line."""


class Batch(Protocol):
    """A place where jobs run. All methods raise BatchError."""

    def submit(self, text: str, job: str) -> str:
        """Starts what `text` says (a script, a manifest, a command) under the name `job`. Returns the job's id."""

    def state(self, job: str) -> State:
        """How the job of this id is."""

    def follow(self, job: str) -> Iterator[str]:
        """What the job wrote and writes, in pieces, until it has ended."""

    def stop(self, job: str) -> None:
        """Ends the job; it is given some seconds to end well."""


def found(program: str, hint: str) -> str:
    """The path of a program. Raises BatchError with `hint` if it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise BatchError(f"{program} is not installed here; nearest: {hint}")
    return path


def answer(command: list[str], given: str | None = None, seconds: float = 60) -> str:
    """What a program says on stdout, given a text on stdin. Raises BatchError with what it says on stderr."""
    about = f"{Path(command[0]).name} {command[1]}"
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise BatchError(f"{about} did not answer in {seconds:g} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise BatchError(f"{about}: {said[:300] or f'exit code {done.returncode}'}")
    return done.stdout
