"""Samples that have collapsed for good, as against a warning sign, which a run may recover from."""

from __future__ import annotations

from collections.abc import Mapping

PATIENCE = 3
"""Evaluations in a row that must show it."""

GRACE = 0.25
"""Share of a game's rounds in which nothing counts."""


class Collapse:
    """Follows the `variety` of one game's samples (1: the real images'), evaluation by evaluation.

    Collapsed is a game whose variety was 10% and more of the real images' and fell to a tenth of what it was, or that
    has less than 0.5% after 2,000 rounds, at three evaluations in a row after the first quarter of its rounds.
    The warning sign `mode_collapse` asks for half of it twice: from that, runs have come back.
    """

    def __init__(self, last_step: int) -> None:
        self._grace = GRACE * last_step
        self._largest = 0.0
        self._in_a_row = 0

    def see(self, step: int, metrics: Mapping[str, float]) -> str:
        """What is wrong if the samples have collapsed for good, else nothing."""
        if "variety" not in metrics:
            return ""
        variety = metrics["variety"]
        self._largest = max(self._largest, min(variety, 1.0))
        fallen = self._largest >= 0.1 and variety < 0.1 * self._largest
        collapsed = step > self._grace and (fallen or (step >= 2000 and variety < 0.005))
        self._in_a_row = self._in_a_row + 1 if collapsed else 0
        if self._in_a_row < PATIENCE:
            return ""
        return f"variety of the samples {variety:.2g} at step {step}, it was {self._largest:.2g}"
