"""How far the trials of a search have come, and how much work is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.search._outcome import Outcome
from pipelines.settings import SearchExperiment
from tune_spaces.engines import SchedulerName

REDUCTION = 3
"""ASHA's reduction factor: a third of the trials passes each rung, and each rung is at three times the step."""

_PRIOR_TRIALS = 3.0
"""The weight of the scheduler's expectation, as a number of ended trials."""


@dataclass(frozen=True)
class Ladder:
    """ASHA's rungs: `eval_every * 3**k`, up to the end of the longest trial."""

    rungs: tuple[int, ...]
    """In generator updates of a trial with `n_critic=1`."""
    longest: int
    """The generator update at which the budget of such a trial ends."""
    eval_every: int
    by_images: bool
    """Whether rungs are reached in images, so that a trial with a larger `n_critic` needs fewer generator updates."""

    @staticmethod
    def of(experiment: SearchExperiment) -> Ladder:
        """The rungs of a search. Only ASHA has any: HyperBand's differ from trial to trial."""
        budget = experiment.budget
        longest = budget.last_round(experiment.batches[0])
        rungs, step = [], budget.eval_every
        while experiment.search.scheduler == "asha" and step < longest:
            rungs.append(step)
            step *= REDUCTION
        return Ladder(tuple(rungs), longest, budget.eval_every, budget.rounds is None)

    def passed(self, one: Outcome) -> int:
        """How many rungs a trial has passed: those up to its last evaluation, or up to the one before if it was stopped
        there."""
        step = one.step - self.eval_every if one.state == "stopped" else one.step
        reached = step * self.longest / one.last_step if self.by_images else step
        return sum(rung <= reached for rung in self.rungs)

    @property
    def fractions(self) -> list[float]:
        """The rungs as fractions of the longest budget."""
        return [rung / self.longest for rung in self.rungs]


def assumption(scheduler: SchedulerName) -> str:
    """The assumption of `trials_left`, to be printed."""
    if scheduler == "asha":
        return "ETA: a third passes each rung, put right by how far ended trials came"
    if scheduler in ("none", "pbt"):
        return "ETA: every trial plays its whole budget"
    return "ETA: whole budgets, put right by how far ended trials came"


def trials_left(rows: Sequence[Outcome], trials: int, scheduler: SchedulerName, ladder: Ladder) -> float:
    """Expected work until all `trials` have ended, in trials of full length.

    The rest of a trial is estimated from the ended trials that came further. Their mean rest is averaged with the rest
    that the scheduler's rungs predict, which weighs as much as three trials.
    """
    ended = [_fraction(one) for one in rows if one.ended and scheduler not in ("none", "pbt")]
    fresh = _rest(0.0, ended, ladder.fractions) * max(trials - len(rows), 0)
    begun = [one for one in rows if not one.ended]
    return fresh + sum(
        _rest(_fraction(one), [end for end in ended if end > _fraction(one) or not one.step], ladder.fractions)
        for one in begun
    )


def work_done(rows: Sequence[Outcome]) -> float:
    """The work done so far, in trials of full length."""
    return sum(map(_fraction, rows))


def _fraction(one: Outcome) -> float:
    return min(one.step / one.last_step, 1.0)


def _rest(at: float, further: Sequence[float], rungs: Sequence[float]) -> float:
    """The expected rest of a trial at a fraction `at` of its budget. `further`: where ended trials that came further
    have ended; `rungs`: those of the scheduler."""
    known = sum(end - at for end in further)
    return (known + _PRIOR_TRIALS * _predicted(at, rungs)) / (len(further) + _PRIOR_TRIALS)


def _predicted(at: float, rungs: Sequence[float]) -> float:
    """The expected rest of a trial at a fraction of its budget, if a third of the trials passes each later rung."""
    rest, survives, here = 0.0, 1.0, at
    for rung in [*[rung for rung in rungs if rung > at], 1.0]:
        rest += survives * (rung - here)
        survives, here = survives / REDUCTION, rung
    return rest
