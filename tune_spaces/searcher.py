"""Who is asked for settings: points come first, then the families' samplers.

Nothing of it is stored: when a search is gone on with, all is asked and told again, in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

from ray.tune.search import Searcher

from tune_spaces.bohb import Bohb
from tune_spaces.domains import Space
from tune_spaces.studies import Study

MODELS = ("tpe", "gp", "bohb")
"""Samplers that learn: from points too, and first of all from the papers' settings."""


class Sampler(Protocol):
    """A sampler that is asked for one trial's settings and told how they went."""

    def ask(self, trial: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`{"name": family, field: value}`: the sampler's own, or those given, for it to learn from."""

    def reached(self, trial: str, step: int, fid: float) -> None:
        """A trial's FID at a rung."""

    def tell(self, trial: str, step: int, fid: float | None) -> None:
        """The end of a trial; no FID: it failed."""


@dataclass
class _State:
    """What changes as a search goes on."""

    samplers: dict[str, Sampler]
    """For each family its own, or for all the same."""
    chooser: Study | None
    """Chooses the family; None: the one with the fewest trials is next (or the one sampler chooses by itself)."""
    queue: list[dict[str, Any]]
    """Settings to try first."""
    turns: dict[str, int]
    """How many trials each family has had."""
    live: dict[str, Sampler | None] = field(default_factory=dict)
    """Who asked for each live trial; None: a point that no sampler learns from."""
    last: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last result of each live trial."""
    paused: set[str] = field(default_factory=set)


class FamilySearcher(Searcher):
    """Points, then samplers that minimise FID; at most `max_concurrent` trials at once, paused ones not counted."""

    def __init__(
        self,
        sampler: str,
        spaces: Mapping[str, Space],
        seed: int,
        queue: Sequence[Mapping[str, Any]],
        in_turn: bool,
        *,
        metric: str,
        time: str,
    ) -> None:
        super().__init__(metric=metric, mode="min")
        self._spaces, self._time, self._learns = spaces, time, sampler in MODELS
        self.max_concurrent = 1
        chooser = None
        if len(spaces) == 1 or not (in_turn or sampler in ("sobol", "gp")):
            samplers = dict.fromkeys(spaces, _sampler(sampler, spaces, seed))
        else:
            samplers = {name: _sampler(sampler, {name: own}, _seed_of(seed, name)) for name, own in spaces.items()}
            if sampler == "gp" and not in_turn:
                chooser = Study("tpe", {name: {} for name in spaces}, seed)
        self._state = _State(samplers, chooser, [dict(point) for point in queue], dict.fromkeys(spaces, 0))

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Told by Tune's limiter, which leaves it to us: it would count paused trials."""
        self.max_concurrent = max_concurrent
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """`{"settings": {"name": family, field: value}}`, or None while as many run as may."""
        state = self._state
        if len(state.live.keys() - state.paused) >= self.max_concurrent:
            return None
        return {"settings": self._next(trial_id)}

    def _next(self, trial: str) -> dict[str, Any]:
        state = self._state
        settings = self._point(trial) if state.queue else self._sampled(trial)
        state.turns[settings["name"]] += 1
        return settings

    def _point(self, trial: str) -> dict[str, Any]:
        """The next of the queue. A model learns from it if it lies in its space."""
        state = self._state
        point = state.queue.pop(0)
        name = point["name"]
        learns = self._learns and all(point[field] in domain for field, domain in self._spaces[name].items())
        state.live[trial] = state.samplers[name] if learns else None
        if learns:
            state.samplers[name].ask(trial, point)
            if state.chooser is not None:
                state.chooser.ask(trial, {"name": name})
        return point

    def _sampled(self, trial: str) -> dict[str, Any]:
        state = self._state
        name = state.chooser.ask(trial)["name"] if state.chooser else min(state.turns, key=lambda one: state.turns[one])
        state.live[trial] = sampler = state.samplers[name]
        return sampler.ask(trial)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A FID on the way; a scheduler of rungs says whether it is of one."""
        trial, fid = trial_id, _finite(result.get(self.metric))
        if trial in self._state.live:
            self._state.last[trial] = {key: result[key] for key in (self.metric, self._time) if key in result}
        sampler = self._state.live.get(trial)
        if sampler is not None and fid is not None and "budget" in result.get("hyperband_info", {}):
            sampler.reached(trial, int(result[self._time]), fid)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The end of a trial, by itself, by a scheduler or by a failure. Tune gives no result of one that is stopped
        while it is paused."""
        state, trial = self._state, trial_id
        if trial not in state.live:
            return
        sampler, last = state.live.pop(trial), state.last.pop(trial, {})
        state.paused.discard(trial)
        if sampler is None:
            return
        result = last if result is None else result
        fid = None if error else _finite(result.get(self.metric))
        step = int(result.get(self._time, 0))
        sampler.tell(trial, step, fid)
        if state.chooser is not None:
            state.chooser.tell(trial, step, fid)

    def on_pause(self, trial_id: str) -> None:
        """Told by Tune's HyperBand for BOHB: another trial may run meanwhile."""
        self._state.paused.add(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Told by Tune's HyperBand for BOHB."""
        self._state.paused.discard(trial_id)


def _sampler(name: str, spaces: Mapping[str, Space], seed: int) -> Sampler:
    return Bohb(spaces, seed) if name == "bohb" else Study(name, spaces, seed)


def _seed_of(seed: int, name: str) -> int:
    """Another seed for each family, whatever the others are."""
    return crc32(f"{seed}/{name}".encode())


def _finite(fid: object) -> float | None:
    return float(fid) if isinstance(fid, int | float) and math.isfinite(fid) else None
