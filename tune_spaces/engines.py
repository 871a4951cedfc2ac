"""Makes a search's sampler and scheduler from their names. Ray is imported only when one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from gan_core.measures import FID, Objective
from gan_core.settings import SettingsError
from tune_spaces.domains import Space

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from tune_spaces.searcher import FamilySearcher

SamplerName = Literal["tpe", "random", "sobol", "gp"]
SchedulerName = Literal["asha", "hyperband", "median", "pbt", "none"]

Rows = Sequence[Mapping[str, float]]

TIME, IMAGES = "step", "images_seen"


def check_engines(sampler: SamplerName, scheduler: SchedulerName) -> None:
    """Raises SettingsError if the two cannot work together."""
    if scheduler == "pbt" and sampler not in ("random", "sobol"):
        raise SettingsError(
            f"search.scheduler=pbt changes settings as it trains, of which search.sampler={sampler} would not know",
            nearest="search.sampler=sobol",
        )


def searcher(
    name: SamplerName,
    spaces: Mapping[str, Space],
    seed: int,
    *,
    compare: bool = False,
    points: Sequence[Mapping[str, Any]] = (),
    defaults: Sequence[Mapping[str, Any]] = (),
    objective: Objective = FID,
) -> FamilySearcher:
    """A sampler over the spaces of one family or several, which looks for the best value of the objective.

    `points`: settings to try first, `{"name": family, field: value}`, even outside the space. `defaults`: the papers'
    settings, tried next if the sampler has a model and they lie in the space. `compare`: gives each family the same
    number of trials, with any sampler.
    """
    from tune_spaces.searcher import MODELS, FamilySearcher

    known = [one for one in defaults if all(one[field] in domain for field, domain in spaces[str(one["name"])].items())]
    queue = [*points, *(known if name in MODELS else [])]
    return FamilySearcher(name, spaces, seed, queue, compare, objective=objective)


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
    objective: Objective = FID,
) -> TrialScheduler:
    """The scheduler that stops trials early, or (pbt) makes them continue from another trial's weights.

    `last_step`: the end of the longest trial's budget; `first_rung`: its first evaluation. Both are in generator
    updates, or in images with `time=IMAGES`. `history`: returns a trial's earlier rows by its id, if the search is
    resumed.
    `compare`: compares trials only with those of their own family, as pbt always does.
    """
    from tune_spaces.schedulers import SCHEDULERS, PerFamily, Rungs

    rungs = Rungs(last_step, first_rung, objective, time, history)

    def make(known: Mapping[str, Space]) -> TrialScheduler:
        return SCHEDULERS[name](rungs, known, seed)

    if compare and name != "pbt":
        return PerFamily({family: make({family: space}) for family, space in (spaces or {}).items()})
    return make(spaces or {})
