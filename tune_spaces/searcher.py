"""Where a trial's settings come from: first the points, then the families' samplers.

Its state is not stored: when a search is resumed, all suggestions and results are replayed in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from ray.tune.search import Searcher

from gan_core.measures import Objective
from tune_spaces.domains import Space
from tune_spaces.played import PlayedSettings
from tune_spaces.studies import Study

MODELS = ("tpe", "gp")
"""Samplers that learn from results. They try the papers' settings first, and learn from points too."""


class FamilySearcher(Searcher):
    """Suggests points, then settings from samplers that look for the best value of the objective. `in_turn`: families
    get equally many trials."""

    def __init__(
        self,
        sampler: str,
        spaces: Mapping[str, Space],
        seed: int,
        queue: Sequence[Mapping[str, Any]],
        in_turn: bool,
        *,
        objective: Objective,
    ) -> None:
        super().__init__(metric=objective.name, mode=objective.mode)
        self._objective = objective
        self._spaces, self._learns = spaces, sampler in MODELS
        # One for each family, or one for all.
        self._samplers: dict[str, Study]
        # Chooses the family. None: the family with the fewest trials is next, or the one sampler chooses.
        self._chooser: Study | None = None
        if len(spaces) == 1 or not (in_turn or sampler in ("sobol", "gp")):
            self._samplers = dict.fromkeys(spaces, Study(sampler, spaces, seed))
        else:
            self._samplers = {n: Study(sampler, {n: own}, _seed_of(seed, n)) for n, own in spaces.items()}
            if sampler == "gp" and not in_turn:
                self._chooser = Study("tpe", {name: {} for name in spaces}, seed)
        self._queue = [dict(point) for point in queue]
        self._played = PlayedSettings(spaces, seed)
        self.most = self._played.total(self._queue)
        """How many trials there can be, since no settings are played twice; infinity in a continuous space."""
        self._turns = dict.fromkeys(spaces, 0)
        self._live: dict[str, Study | None] = {}  # each trial's sampler; None: none learns from it
        self._last: dict[str, float | None] = {}  # the last loss of each live trial

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """`{"settings": {"name": family, field: value}}`, with settings that it has not suggested before. None if there
        are no others."""
        self._queue = [point for point in self._queue if point not in self._played]
        if self._queue:
            settings = self._point(trial_id)
        elif any(map(self._played.left, self._spaces)):
            settings = self._sampled(trial_id)
        else:
            return None
        self._played.add(settings)
        self._turns[settings["name"]] += 1
        return {"settings": settings}

    def _point(self, trial: str) -> dict[str, Any]:
        """The next point of the queue. A model learns from it if the point lies in its space."""
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
        chooser, fewest = self._chooser, self._with_fewest_turns()
        name = chooser.ask(trial)["name"] if chooser else fewest
        if chooser is not None and not self._played.left(name):
            name = chooser.replace(trial, {"name": fewest})["name"]
        self._live[trial] = sampler = self._samplers[name]
        settings = sampler.ask(trial)
        if settings in self._played:
            name = settings["name"] if self._played.left(settings["name"]) else fewest
            settings = sampler.replace(trial, self._played.another(name, settings))
        return settings

    def _with_fewest_turns(self) -> str:
        """Of the families that have settings left."""
        return min((name for name in self._spaces if self._played.left(name)), key=lambda name: self._turns[name])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keeps the trial's last value. If Tune stops a trial while it is paused, it passes no result at its end."""
        if trial_id in self._live:
            self._last[trial_id] = self._loss(result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Passes the loss of the trial's last value to the sampler that suggested it; None if the trial failed."""
        sampler, last = self._live.pop(trial_id, None), self._last.pop(trial_id, None)
        if sampler is None:
            return
        loss = None if error else last if result is None else self._loss(result)
        sampler.tell(trial_id, loss)
        if self._chooser is not None:
            self._chooser.tell(trial_id, loss)

    def _loss(self, result: Mapping[str, Any]) -> float | None:
        """The value of a result as the samplers minimise it; None if it is not finite."""
        value = result.get(self._objective.name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return self._objective.loss(float(value))


def _seed_of(seed: int, name: str) -> int:
    """A family's own seed; it does not depend on the other families."""
    return crc32(f"{seed}/{name}".encode())
