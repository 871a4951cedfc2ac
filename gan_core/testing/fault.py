"""What is wrong with a family, as a test says it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import gan_core


@dataclass(frozen=True)
class Fault:
    """A mistake in a family."""

    check: str
    """Which check found it: settings, import, play, random, gradient, state, workers, samples, labels."""
    wrong: str
    """What is wrong, and where."""
    mend: str
    """What to write instead."""

    def __str__(self) -> str:
        return f"{self.wrong}; to mend it: {self.mend}"


class FamilyError(AssertionError):
    """A family fails some checks: a line each."""

    def __init__(self, family: str, faults: Sequence[Fault]) -> None:
        self.family, self.faults = family, tuple(faults)
        lines = [f"{family} fails {len(faults)} check{'' if len(faults) == 1 else 's'}"]
        super().__init__("\n".join([*lines, *(f"- {fault.check}: {fault}" for fault in faults)]))


_NOT_THE_USERS = tuple(str(Path(str(package.__file__)).parent) for package in (torch, gan_core))


def raised(error: BaseException) -> str:
    """An error in one line, with the line of the user's code that it comes from."""
    said = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith((*_NOT_THE_USERS, "<frozen"))]
    frame = (theirs or frames)[-1]
    return f"{type(error).__name__}: {said} ({place(frame.filename, frame.lineno)})"


def place(file: str, line: int | None) -> str:
    """A line of a file, as editors open it."""
    return f"{Path(file).name}:{line}"
