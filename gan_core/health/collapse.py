"""Samples that have collapsed to a point, as against the warning sign `mode_collapse`, which runs come back from."""

from __future__ import annotations

from collections.abc import Mapping

POINT = 0.001
"""Variety in units of the real images'. Of 17 games of gan and wgan on ring8 and digits over 1,500 rounds, lr 2e-4 to
0.1, the five that ended below had been below from some evaluation on. Three fell to 0.01 to 0.11 and were at 0.1 to
0.45 in the end; the slowest of others that went well (`signs.py`) had 0.003 for 600 rounds."""

BEGUN = 0.01
"""Variety that shows that a game had begun: one that never had it counts only after `SLOW` rounds. All begin near 0;
games of wgan_gp of 60 rounds do not get anywhere."""

SLOW = 1000
"""Rounds. A game of wgan (digits, lr=0.1, clip=0.3) had 0.0003 and less for 225 rounds and 0.69 in the end."""

PATIENCE = 3
"""Evaluations in a row that must show it."""

GRACE = 0.25
"""Share of a game's rounds in which nothing counts."""


class CollapseDetector:
    """Follows the `variety` of one game's samples, evaluation by evaluation."""

    def __init__(self, last_step: int) -> None:
        self._grace = GRACE * last_step
        self._largest = 0.0
        self._in_a_row = 0

    def see(self, step: int, metrics: Mapping[str, float]) -> str:
        """What is wrong if the samples have collapsed for good, else nothing."""
        if "variety" not in metrics:
            return ""
        variety = metrics["variety"]
        self._largest = max(self._largest, variety)
        counts = step > self._grace and (self._largest >= BEGUN or step >= SLOW)
        self._in_a_row = self._in_a_row + 1 if variety < POINT and counts else 0
        if self._in_a_row < PATIENCE:
            return ""
        return f"variety of the samples {variety:.1g} at {PATIENCE} evaluations in a row, until step {step}"
