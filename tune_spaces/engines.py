"""Samplers and schedulers of Ray Tune by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tune_spaces.domains import Domain, suggest

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import Searcher

SamplerName = Literal["tpe", "random"]
SchedulerName = Literal["asha", "none"]

METRIC, MODE, TIME = "fid", "min", "step"


def searcher(name: SamplerName, spaces: Mapping[str, Mapping[str, Domain]], seed: int) -> Searcher:
    """A sampler over the spaces of one family or several, minimising FID."""
    from ray.tune.search.optuna import OptunaSearch

    return OptunaSearch(space=partial(suggest, spaces=spaces), metric=METRIC, mode=MODE, sampler=_SAMPLERS[name](seed))


def scheduler(name: SchedulerName, last_step: int, first_rung: int) -> TrialScheduler:
    """When trials are stopped early; rungs are counted in generator updates.

    asha: Li et al. 2020, a third of the trials goes on at each rung. none: all trials run to the end.
    """
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if name == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode=MODE,
        max_t=last_step,
        grace_period=min(first_rung, last_step),
        reduction_factor=3,
    )


def _tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), one tree for each family's own fields."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=6, multivariate=True, group=True, constant_liar=True)


def _random(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


_SAMPLERS: Mapping[str, Callable[[int], Any]] = {"tpe": _tpe, "random": _random}
