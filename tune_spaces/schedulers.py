"""Schedulers, which stop trials early, by name. Rungs are counted in generator updates, or in images if the budget of a
trial is in images."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from gan_core.measures import Objective
from tune_spaces.domains import Space
from tune_spaces.population import FamilyPopulation

Rows = Sequence[Mapping[str, float]]

REDUCTION = 3
"""One in three trials of a rung continues (Li et al. 2017, section 3.4)."""


@dataclass(frozen=True)
class Rungs:
    """The steps at which trials are compared."""

    last: int
    """The end of the longest trial's budget."""
    first: int
    """The first evaluation."""
    objective: Objective
    time: str
    history: Callable[[str], Rows] | None = None
    """Returns, by a trial's id, the rows that it reported before the search was resumed."""

    @property
    def grace(self) -> int:
        """The first rung. No trial is stopped before it."""
        return min(self.first, self.last)

    @property
    def halvings(self) -> int:
        """How many times the trials are cut to a third between the first rung and the last."""
        return int(math.log(self.last / self.grace) / math.log(REDUCTION) + 1e-9)


class _Rule(FIFOScheduler):
    """What all rules share. A row without a value of the objective is not compared, one that is not finite stops the
    trial, and a search that is resumed knows its earlier rows."""

    rungs: Rungs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        value = result.get(self.rungs.objective.name)
        if self.rungs.time not in result or value is None:
            return TrialScheduler.CONTINUE
        if not math.isfinite(value):
            return TrialScheduler.STOP
        return super().on_trial_result(tune_controller, trial, result)

    def rows(self, trial: Any) -> Rows:
        """The rows with a value that a trial reported before the search was resumed."""
        time, name = self.rungs.time, self.rungs.objective.name
        last = trial.run_metadata.last_result.get(time)
        if last is None or self.rungs.history is None:
            return ()
        known = [row for row in self.rungs.history(trial.trial_id) if {time, name} <= row.keys()]
        return [row for row in known if row[time] <= last and math.isfinite(row[name])]


class _Asha(_Rule, AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020): a third of the trials continues at each rung, without waiting for the others."""

    def __init__(self, rungs: Rungs, brackets: int = 1) -> None:
        super().__init__(
            time_attr=rungs.time,
            metric=rungs.objective.name,
            mode=rungs.objective.mode,
            max_t=rungs.last,
            grace_period=rungs.grace,
            reduction_factor=REDUCTION,
            brackets=brackets,
        )
        self.rungs = rungs

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._trial_info[trial.trial_id] = bracket = self.bracket(trial.trial_id)
        objective = self.rungs.objective
        for row in self.rows(trial):
            bracket.on_result(trial, row[self.rungs.time], -objective.loss(row[objective.name]))

    def bracket(self, trial: str) -> Any:
        """The rungs of a trial."""
        return self._brackets[0]


class _HyperBand(_Asha):
    """HyperBand without barriers (Li et al. 2020, section 3.2): brackets of ASHA, each with a later first rung.

    Brackets get trials in HyperBand's proportions, the earliest the most. Tune draws them from NumPy's global state.
    """

    def __init__(self, rungs: Rungs, seed: int) -> None:
        super().__init__(rungs, rungs.halvings + 1)
        self._seed = seed

    def bracket(self, trial: str) -> Any:
        """The rungs of a trial, drawn from its name, so that they do not depend on the order of trials."""
        sizes = [REDUCTION**level / (level + 1) for level in reversed(range(len(self._brackets)))]
        return random.Random(f"{self._seed}/{trial}").choices(self._brackets, sizes)[0]


class _Median(_Rule, MedianStoppingRule):
    """The median rule (Golovin et al. 2017, Vizier): stops a trial whose best value is worse than the median of the
    other trials' means."""

    def __init__(self, rungs: Rungs) -> None:
        super().__init__(
            time_attr=rungs.time,
            metric=rungs.objective.name,
            mode=rungs.objective.mode,
            grace_period=rungs.grace,
            min_samples_required=3,
            min_time_slice=cast(int, math.inf),  # else a trial is paused in favour of waiting ones
        )
        self.rungs = rungs

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        self._results[trial] += list(self.rows(trial))
        if not self._results[trial]:
            del self._results[trial]

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Does nothing: the last row was counted already, and Tune would count it twice."""


class PerFamily(FIFOScheduler):
    """A rule for each of the families that are compared. With common rungs, the trials of a family that learns slowly
    would all be stopped at the first."""

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
        """The trial of the first rule that has one."""
        found = (rule.choose_trial_to_run(tune_controller) for rule in self._rules.values())
        return next((trial for trial in found if trial is not None), None)


Factory = Callable[[Rungs, Mapping[str, Space], int], TrialScheduler]

SCHEDULERS: Mapping[str, Factory] = {
    "asha": lambda rungs, spaces, seed: _Asha(rungs),
    "hyperband": lambda rungs, spaces, seed: _HyperBand(rungs, seed),
    "median": lambda rungs, spaces, seed: _Median(rungs),
    "pbt": lambda rungs, spaces, seed: FamilyPopulation(
        spaces, seed, objective=rungs.objective, time=rungs.time, interval=rungs.grace
    ),
    "none": lambda rungs, spaces, seed: FIFOScheduler(),
}
