"""Detects samples that have collapsed to a point for good. The warning sign `mode_collapse` comes earlier: runs can
recover from it."""

from __future__ import annotations

from collections.abc import Mapping

POINT = 0.001
"""Samples with less variety than this (1: that of the real images) are at one point.

Measured in 17 games of gan and wgan on ring8 and digits, 1,500 rounds, lr 2e-4 to 0.1: the five that ended below this
value stayed below it from some evaluation on. Three others fell to 0.01 to 0.11 and ended at 0.1 to 0.45. The slowest
of the good runs in `signs.py` had 0.003 for 600 rounds."""

BEGUN = 0.01
"""Variety that shows that training has got under way. All games start near 0, and 60 rounds of wgan_gp do not leave
it. So a game that never had this much counts as collapsed only after `SLOW` rounds."""

SLOW = 1000
"""Rounds after which every game should be under way. A game of wgan (digits, lr=0.1, clip=0.3) had a variety of at most
0.0003 for 225 rounds and of 0.69 at the end."""

PATIENCE = 3
"""Evaluations in a row that must show the collapse."""

GRACE = 0.25
"""Share of a game's rounds, from the start, in which nothing counts as a collapse."""


class CollapseDetector:
    """Follows the `variety` of one game's samples over its evaluations."""

    def __init__(self, last_step: int) -> None:
        self._grace = GRACE * last_step
        self._largest = 0.0
        self._in_a_row = 0

    def see(self, step: int, metrics: Mapping[str, float]) -> str:
        """A message if the samples have collapsed for good, else an empty string."""
        if "variety" not in metrics:
            return ""
        variety = metrics["variety"]
        self._largest = max(self._largest, variety)
        counts = step > self._grace and (self._largest >= BEGUN or step >= SLOW)
        self._in_a_row = self._in_a_row + 1 if variety < POINT and counts else 0
        if self._in_a_row < PATIENCE:
            return ""
        return f"variety of the samples {variety:.1g} at {PATIENCE} evaluations in a row, until step {step}"
