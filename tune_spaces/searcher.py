"""Who is asked for settings: points come first, then the families' samplers.

Nothing of it is stored: when a search is gone on with, all is asked and told again, in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from ray.tune.search import Searcher

from tune_spaces.domains import Space
from tune_spaces.studies import Study

MODELS = ("tpe", "gp")
"""Samplers that learn: from points too, and first of all from the papers' settings."""


class FamilySearcher(Searcher):
    """Points, then samplers that minimise FID. How many trials run at once is for others to say."""

    def __init__(
        self,
        sampler: str,
        spaces: Mapping[str, Space],
        seed: int,
        queue: Sequence[Mapping[str, Any]],
        in_turn: bool,
        *,
        metric: str,
    ) -> None:
        super().__init__(metric=metric, mode="min")
        self._spaces, self._learns = spaces, sampler in MODELS
        # Of each family its own, or of all the same.
        self._samplers: dict[str, Study]
        # Chooses the family; None: the one with the fewest trials is next (or the one sampler chooses by itself).
        self._chooser: Study | None = None
        if len(spaces) == 1 or not (in_turn or sampler in ("sobol", "gp")):
            self._samplers = dict.fromkeys(spaces, Study(sampler, spaces, seed))
        else:
            self._samplers = {n: Study(sampler, {n: own}, _seed_of(seed, n)) for n, own in spaces.items()}
            if sampler == "gp" and not in_turn:
                self._chooser = Study("tpe", {name: {} for name in spaces}, seed)
        self._queue = [dict(point) for point in queue]
        self._turns = dict.fromkeys(spaces, 0)
        self._live: dict[str, Study | None] = {}  # who asked for each; None: a point that no sampler learns from
        self._last: dict[str, float | None] = {}  # the last FID of each live trial

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """`{"settings": {"name": family, field: value}}`."""
        settings = self._point(trial_id) if self._queue else self._sampled(trial_id)
        self._turns[settings["name"]] += 1
        return {"settings": settings}

    def _point(self, trial: str) -> dict[str, Any]:
        """The next of the queue. A model learns from it if it lies in its space."""
        point = self._queue.pop(0)
        name = point["name"]
        learns = self._learns and all(point[field] in domain for field, domain in self._spaces[name].items())
        self._live[trial] = self._samplers[name] if learns else None
        if learns:
            self._samplers[name].ask(trial, point)
            if self._chooser is not None:
                self._chooser.ask(trial, {"name": name})
        return point

    def _sampled(self, trial: str) -> dict[str, Any]:
        chooser, turns = self._chooser, self._turns
        name = chooser.ask(trial)["name"] if chooser else min(turns, key=lambda one: turns[one])
        self._live[trial] = sampler = self._samplers[name]
        return sampler.ask(trial)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the last FID of a running trial: Tune gives no result with the end of a trial stopped while paused."""
        if trial_id in self._live:
            self._last[trial_id] = _finite(result.get(self.metric))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Passes the trial's last FID to the sampler that suggested it; None if the trial failed."""
        sampler, last = self._live.pop(trial_id, None), self._last.pop(trial_id, None)
        if sampler is None:
            return
        known = last if result is None else _finite(result.get(self.metric))
        fid = None if error else known
        sampler.tell(trial_id, fid)
        if self._chooser is not None:
            self._chooser.tell(trial_id, fid)


def _seed_of(seed: int, name: str) -> int:
    """Another seed for each family, whatever the others are."""
    return crc32(f"{seed}/{name}".encode())


def _finite(fid: object) -> float | None:
    return float(fid) if isinstance(fid, int | float) and math.isfinite(fid) else None
