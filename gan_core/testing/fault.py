"""What is wrong with a family, as a test says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
