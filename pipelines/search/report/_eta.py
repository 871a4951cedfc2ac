"""How far a search's trials have come: rungs passed, and how much is left to play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.search._outcome import Outcome
from pipelines.settings import SearchExperiment
from tune_spaces.engines import SchedulerName

REDUCTION = 3
"""Of ASHA: a third of the trials goes on at each rung, and each rung is three times as far."""

_PRIOR_TRIALS = 3.0
"""How many ended trials the expectation from before the search weighs as much as."""


@dataclass(frozen=True)
class Ladder:
    """The rungs that a scheduler has for all trials: ASHA's eval_every * 3**k before the end of the longest trial."""

    rungs: tuple[int, ...]
    """In generator updates of a trial of one critic step a round."""
    longest: int
    """Where the budget of such a trial ends."""
    eval_every: int
    by_images: bool
    """Whether trials of several critic steps climb in images rather than in their own generator updates."""

    @staticmethod
    def of(experiment: SearchExperiment) -> Ladder:
        """That of a search; without rungs for any scheduler but ASHA (HyperBand's differ from trial to trial)."""
        budget = experiment.budget
        longest = budget.last_round(experiment.data.batch_size)
        rungs, step = [], budget.eval_every
        while experiment.search.scheduler == "asha" and step < longest:
            rungs.append(step)
            step *= REDUCTION
        return Ladder(tuple(rungs), longest, budget.eval_every, budget.rounds is None)

    def passed(self, one: Outcome) -> int:
        """How many rungs a trial passed: those up to its last evaluation, or, if it was stopped there, to the one
        before."""
        step = one.step - self.eval_every if one.state == "stopped" else one.step
        reached = step * self.longest / one.last_step if self.by_images else step
        return sum(rung <= reached for rung in self.rungs)

    @property
    def shares(self) -> list[float]:
        """The rungs as shares of the longest budget."""
        return [rung / self.longest for rung in self.rungs]


def assumption(scheduler: SchedulerName) -> str:
    """What `trials_left` assumes."""
    if scheduler == "asha":
        return "ETA: a third passes each rung, put right by how far ended trials came"
    if scheduler in ("none", "pbt"):
        return "ETA: every trial plays its whole budget"
    return "ETA: whole budgets, put right by how far ended trials came"


def trials_left(rows: Sequence[Outcome], trials: int, scheduler: SchedulerName, ladder: Ladder) -> float:
    """Expected work until all `trials` have ended, in trials of full length.

    A trial that reached a share of its budget goes on as far, on average, as those ended trials did that came further;
    they are averaged with what the scheduler's rungs let one expect, which weighs as much as three of them.
    """
    ended = [_share(one) for one in rows if one.ended and scheduler not in ("none", "pbt")]
    fresh = _left(0.0, ended, ladder.shares) * max(trials - len(rows), 0)
    begun = [one for one in rows if not one.ended]
    return fresh + sum(
        _left(_share(one), [share for share in ended if share > _share(one) or not one.step], ladder.shares)
        for one in begun
    )


def shares(rows: Sequence[Outcome]) -> float:
    """The work done so far, in trials of full length."""
    return sum(map(_share, rows))


def _share(one: Outcome) -> float:
    return min(one.step / one.last_step, 1.0)


def _left(at: float, further: Sequence[float], rungs: Sequence[float]) -> float:
    """The expected rest of a trial at this share, from ended ones that came further and from the rungs ahead."""
    known = sum(share - at for share in further)
    return (known + _PRIOR_TRIALS * _expected(at, rungs)) / (len(further) + _PRIOR_TRIALS)


def _expected(at: float, rungs: Sequence[float]) -> float:
    """The expected rest of a trial at a share of its budget if a third passes each rung that lies ahead."""
    rest, survives, here = 0.0, 1.0, at
    for rung in [*[rung for rung in rungs if rung > at], 1.0]:
        rest += survives * (rung - here)
        survives, here = survives / REDUCTION, rung
    return rest
