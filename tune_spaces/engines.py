"""Samplers and schedulers of a search by name. Nothing here imports Ray before it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gan_core.settings import SettingsError
from tune_spaces.domains import Space

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from tune_spaces.searcher import FamilySearcher

SamplerName = Literal["tpe", "random", "sobol", "gp"]
SchedulerName = Literal["asha", "hyperband", "median", "pbt", "none"]

Rows = Sequence[Mapping[str, float]]

METRIC, TIME, IMAGES = "fid", "step", "images_seen"


def check_engines(sampler: SamplerName, scheduler: SchedulerName) -> None:
    """Raises SettingsError if the two cannot work together."""
    if scheduler == "pbt" and sampler not in ("random", "sobol"):
        raise SettingsError(
            f"search.scheduler=pbt changes settings as it trains, of which search.sampler={sampler} would not know;"
            " nearest: search.sampler=sobol"
        )


def searcher(
    name: SamplerName,
    spaces: Mapping[str, Space],
    seed: int,
    *,
    compare: bool = False,
    points: Sequence[Mapping[str, Any]] = (),
    defaults: Sequence[Mapping[str, Any]] = (),
) -> FamilySearcher:
    """A sampler over the spaces of one family or several, minimising FID.

    `points`: settings to try first, `{"name": family, field: value}`, wherever they lie. `defaults`: the papers'
    settings, tried next if the sampler has a model and they lie in the space. `compare`: each family gets as many
    trials, whatever the sampler.
    """
    from tune_spaces.searcher import MODELS, FamilySearcher

    known = [one for one in defaults if all(one[field] in domain for field, domain in spaces[str(one["name"])].items())]
    queue = [*points, *(known if name in MODELS else [])]
    return FamilySearcher(name, spaces, seed, queue, compare, metric=METRIC)


def scheduler(
    name: SchedulerName,
    last_step: int,
    first_rung: int,
    *,
    spaces: Mapping[str, Space] | None = None,
    seed: int = 0,
    compare: bool = False,
    time: str = TIME,
    history: Callable[[str], Rows] | None = None,
) -> TrialScheduler:
    """When trials are stopped early, or (pbt) go on from another's weights.

    `last_step` is the end of the longest trial's budget and `first_rung` its first evaluation, in generator updates, or
    both in images with `time=IMAGES`. `history`: a trial's rows so far, by its id, for a search that is gone on with.
    `compare`: trials are compared with those of their own family alone. (A population is of one family in any case.)
    """
    from tune_spaces.schedulers import SCHEDULERS, PerFamily, Rungs

    rungs = Rungs(last_step, first_rung, METRIC, time, history)

    def made(known: Mapping[str, Space]) -> TrialScheduler:
        return SCHEDULERS[name](rungs, known, seed)

    if compare and name != "pbt":
        return PerFamily({family: made({family: space}) for family, space in (spaces or {}).items()})
    return made(spaces or {})
