"""How far a search's trials have come: rungs passed, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.outcome import Outcome
from tune_spaces.engines import SchedulerName

REDUCTION = 3
"""Of ASHA: a third of the trials goes on at each rung, and each rung is three times as far."""

_PRIOR_TRIALS = 3.0
"""How many ended trials the expectation from before the search weighs as much as."""


def rungs(scheduler: SchedulerName, eval_every: int, last_step: int) -> list[int]:
    """The steps at which a scheduler halts some of the trials: ASHA's eval_every * 3**k before the last step. The
    others have none that is the same for all trials."""
    steps = []
    step = eval_every
    while scheduler == "asha" and step < last_step:
        steps.append(step)
        step *= REDUCTION
    return steps


def passed(one: Outcome, rungs: Sequence[int]) -> int:
    """How many rungs a trial passed. At the rung where it was stopped it did not."""
    return sum(rung < one.step or (rung == one.step and one.state != "stopped") for rung in rungs)


def assumption(scheduler: SchedulerName) -> str:
    """What `trials_left` assumes."""
    if scheduler == "asha":
        return "ETA: a third passes each rung, put right by how far ended trials came"
    if scheduler in ("none", "pbt"):
        return "ETA: every trial plays its whole budget"
    return "ETA: whole budgets, put right by how far ended trials came"


def trials_left(rows: Sequence[Outcome], trials: int, scheduler: SchedulerName, eval_every: int) -> float:
    """Expected work until all `trials` have ended, in trials of full length.

    A trial that reached a share of its budget goes on as far, on average, as those ended trials did that came further;
    they are averaged with what the scheduler's rungs let one expect, which weighs as much as three of them.
    """
    stopping = scheduler not in ("none", "pbt")
    ended = [_share(one) for one in rows if one.ended] if stopping else []
    last_step = max((one.last_step for one in rows), default=eval_every)
    halts = [rung / last_step for rung in rungs(scheduler, eval_every, last_step)]
    fresh = _left(0.0, ended, halts) * max(trials - len(rows), 0)
    open_rows = [one for one in rows if not one.ended]
    return fresh + sum(
        _left(_share(one), [share for share in ended if share > _share(one) or not one.step], halts)
        for one in open_rows
    )


def shares(rows: Sequence[Outcome]) -> float:
    """The work done so far, in trials of full length."""
    return sum(map(_share, rows))


def _share(one: Outcome) -> float:
    return min(one.step / one.last_step, 1.0)


def _left(at: float, further: Sequence[float], halts: Sequence[float]) -> float:
    """The expected rest of a trial at this share, from ended ones that came further and from the rungs ahead."""
    known = sum(share - at for share in further)
    return (known + _PRIOR_TRIALS * _expected(at, halts)) / (len(further) + _PRIOR_TRIALS)


def _expected(at: float, halts: Sequence[float]) -> float:
    """The expected rest of a trial at a share of its budget if a third passes each rung that lies ahead."""
    rest, survives, here = 0.0, 1.0, at
    for halt in [*[halt for halt in halts if halt > at], 1.0]:
        rest += survives * (halt - here)
        survives, here = survives / REDUCTION, halt
    return rest
