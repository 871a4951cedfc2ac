"""Samples that have collapsed to a point, as against the warning sign `mode_collapse`, which runs come back from."""

from __future__ import annotations

from collections.abc import Mapping

POINT = 0.001
"""Variety in units of the real images'. Of 17 games of gan and wgan on ring8 and digits over 1,500 rounds, lr 2e-4 to
0.1, the five that ended below had been below from some evaluation on. Three fell to 0.01 to 0.11 and were at 0.1 to
0.45 in the end; the slowest that went well (`signs.py`) had 0.003 for 600 rounds."""

PATIENCE = 3
"""Evaluations in a row that must show it."""

GRACE = 0.25
"""Share of a game's rounds in which nothing counts: one of those games (wgan, lr=0.1, clip=0.3) had 0.0003 and less for
225 rounds and 0.69 in the end."""

UNTRAINED = 100
"""Rounds in which nothing counts either: an untrained convolutional generator draws a point (variety 6e-6). On digits
at lr=1e-5 it had 0.02 after 80 rounds."""


class Collapse:
    """Follows the `variety` of one game's samples, evaluation by evaluation."""

    def __init__(self, last_step: int) -> None:
        self._grace = max(GRACE * last_step, UNTRAINED)
        self._in_a_row = 0

    def see(self, step: int, metrics: Mapping[str, float]) -> str:
        """What is wrong if the samples have collapsed for good, else nothing."""
        if "variety" not in metrics:
            return ""
        variety = metrics["variety"]
        self._in_a_row = self._in_a_row + 1 if variety < POINT and step > self._grace else 0
        if self._in_a_row < PATIENCE:
            return ""
        return f"variety of the samples {variety:.1g} at {PATIENCE} evaluations in a row, until step {step}"
