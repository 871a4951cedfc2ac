"""When trials are stopped early, by name. A rung is reached in generator updates, or in images where those are what
a trial's budget is made of."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from tune_spaces.domains import Space
from tune_spaces.population import FamilyPopulation

Rows = Sequence[Mapping[str, float]]

REDUCTION = 3
"""Of the trials of a rung, one in three goes on (Li et al. 2017, section 3.4)."""


@dataclass(frozen=True)
class Rungs:
    """Where trials are compared."""

    last: int
    """The end of the longest trial's budget."""
    first: int
    """The first evaluation."""
    metric: str
    time: str
    history: Callable[[str], Rows] | None = None
    """The rows of a trial that an earlier driver left or ended."""

    @property
    def grace(self) -> int:
        """The first rung: no trial ends before it."""
        return min(self.first, self.last)

    @property
    def halvings(self) -> int:
        """How often a third goes on from the first rung to the last."""
        return int(math.log(self.last / self.grace) / math.log(REDUCTION) + 1e-9)


class _Sound(FIFOScheduler):
    """What all rules share: a row without a FID is no moment to compare, a FID that is no number ends a trial, and a
    search that is gone on with remembers."""

    rungs: Rungs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self.rungs.time not in result or result.get(self.rungs.metric) is None:
            return TrialScheduler.CONTINUE
        if not math.isfinite(result[self.rungs.metric]):
            return TrialScheduler.STOP
        return super().on_trial_result(tune_controller, trial, result)

    def rows(self, trial: Any) -> Rows:
        """What a trial had reported under an earlier driver: this driver's scheduler knows nothing of it."""
        last = trial.run_metadata.last_result.get(self.rungs.time)
        if last is None or self.rungs.history is None:
            return ()
        known = [
            row for row in self.rungs.history(trial.trial_id) if {self.rungs.time, self.rungs.metric} <= row.keys()
        ]
        return [row for row in known if row[self.rungs.time] <= last and math.isfinite(row[self.rungs.metric])]


class _Asha(_Sound, AsyncHyperBandScheduler):
    """Li et al. 2020: a third of the trials goes on at each rung, without waiting for the others."""

    def __init__(self, rungs: Rungs, brackets: int = 1) -> None:
        super().__init__(
            time_attr=rungs.time,
            metric=rungs.metric,
            mode="min",
            max_t=rungs.last,
            grace_period=rungs.grace,
            reduction_factor=REDUCTION,
            brackets=brackets,
        )
        self.rungs = rungs

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._trial_info[trial.trial_id] = bracket = self.bracket(trial.trial_id)
        for row in self.rows(trial):
            bracket.on_result(trial, row[self.rungs.time], -row[self.rungs.metric])

    def bracket(self, trial: str) -> Any:
        """The rungs of a trial."""
        return self._brackets[0]


class _HyperBand(_Asha):
    """HyperBand without barriers (Li et al. 2020, section 3.2): brackets of ASHA that begin at later rungs, each given
    trials as HyperBand would, most to the earliest. Tune itself draws the bracket from NumPy's global state."""

    def __init__(self, rungs: Rungs, seed: int) -> None:
        super().__init__(rungs, rungs.halvings + 1)
        self._seed = seed

    def bracket(self, trial: str) -> Any:
        """By its name, so that it is the same whenever and in whatever order trials are added."""
        sizes = [REDUCTION**level / (level + 1) for level in reversed(range(len(self._brackets)))]
        return random.Random(f"{self._seed}/{trial}").choices(self._brackets, sizes)[0]


class _Median(_Sound, MedianStoppingRule):
    """Golovin et al. 2017 (Vizier): a trial whose best is worse than the median of the others' means ends."""

    def __init__(self, rungs: Rungs) -> None:
        super().__init__(
            time_attr=rungs.time,
            metric=rungs.metric,
            mode="min",
            grace_period=rungs.grace,
            min_samples_required=3,
            min_time_slice=cast(int, math.inf),  # else a trial gives way to those that wait
        )
        self.rungs = rungs

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        self._results[trial] += list(self.rows(trial))
        if not self._results[trial]:
            del self._results[trial]

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Its last row is known; Tune would count it twice."""


class PerFamily(FIFOScheduler):
    """A rule for each family, of families that are compared: if they had their rungs in common, one that begins slowly
    would end at the first."""

    def __init__(self, rules: Mapping[str, TrialScheduler]) -> None:
        self._rules = rules

    def _of(self, trial: Any) -> TrialScheduler:
        return self._rules[trial.config["settings"]["name"]]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self._of(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Of the first rule that has one."""
        found = (rule.choose_trial_to_run(tune_controller) for rule in self._rules.values())
        return next((trial for trial in found if trial is not None), None)


Made = Callable[[Rungs, Mapping[str, Space], int], TrialScheduler]

SCHEDULERS: Mapping[str, Made] = {
    "asha": lambda rungs, spaces, seed: _Asha(rungs),
    "hyperband": lambda rungs, spaces, seed: _HyperBand(rungs, seed),
    "median": lambda rungs, spaces, seed: _Median(rungs),
    "pbt": lambda rungs, spaces, seed: FamilyPopulation(
        spaces, seed, metric=rungs.metric, time=rungs.time, interval=rungs.grace
    ),
    "none": lambda rungs, spaces, seed: FIFOScheduler(),
}
