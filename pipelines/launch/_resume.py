"""`--resume NAME`: budgets, resources and places may change, the settings of the game may not."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TypeVar

from gan_core.settings import SettingsError, parse_yaml, similar
from pipelines.launch._shipped import import_shipped
from pipelines.runs import RunFolder, find_run
from pipelines.settings import (
    CommonSettings,
    SearchExperiment,
    Storage,
    TrainExperiment,
    check_functions,
    check_paths,
    storage_words,
)

Resumed = TypeVar("Resumed", bound=CommonSettings)

BOTH_MAY_CHANGE = (
    *("tracking.uri", "compute.workers", "compute.min_workers", "compute.device", "compute.cpus", "compute.gpus"),
    *("compute.ship", "storage.endpoint_url", "storage.cache_gb"),
    *("reliability.on_divergence", "reliability.rollbacks", "reliability.rollback_lr_factor"),
)
TRAIN_MAY_GROW = ("budget.rounds", "budget.images")
TRAIN_MAY_CHANGE = (*TRAIN_MAY_GROW, *BOTH_MAY_CHANGE)
SEARCH_MAY_GROW = ("search.trials", "search.hours", "search.images", "search.confirm", "search.confirm_seeds")
SEARCH_MAY_CHANGE = (*SEARCH_MAY_GROW, "search.max_concurrent", *BOTH_MAY_CHANGE)


def resumed_train(name: str, assignments: Sequence[str]) -> tuple[TrainExperiment, RunFolder]:
    """The settings of a training run with the changes that are allowed, and its folder. Raises SettingsError."""
    experiment, folder = _resumed(TrainExperiment, name, assignments, TRAIN_MAY_CHANGE, TRAIN_MAY_GROW)
    check_functions(experiment.metrics)
    return experiment, folder


def resumed_search(name: str, assignments: Sequence[str]) -> tuple[SearchExperiment, RunFolder]:
    """The settings of a search with the changes that are allowed, and its folder. Raises SettingsError."""
    experiment, folder = _resumed(SearchExperiment, name, assignments, SEARCH_MAY_CHANGE, SEARCH_MAY_GROW)
    check_functions(experiment.metrics, experiment.search.metric)
    return experiment, folder


def _resumed(
    model: type[Resumed], name: str, assignments: Sequence[str], may_change: Sequence[str], may_grow: Sequence[str]
) -> tuple[Resumed, RunFolder]:
    changes = [word for word in assignments if not word.startswith("storage.path=")]
    storage = CommonSettings().override(*storage_words(assignments)).storage
    folder = find_run(name, storage)
    if folder.of_search != (model is SearchExperiment):
        kind, verb = ("search", "search") if folder.of_search else ("training run", "train")
        raise SettingsError(f"'{name}' is a {kind}", nearest=f"ganfleet {verb} --resume {name}")
    for key in (word.partition("=")[0] for word in changes):
        if key not in may_change:
            right = f"{similar(key, may_change) or 'leave it out'} (may change: {', '.join(may_change)})"
            raise SettingsError(f"{key} cannot change with --resume", nearest=right)
    values = folder.experiment.read_text()
    import_shipped(parse_yaml(values), changes, folder)
    before = model.from_yaml(values)
    after = _at_current_place(before.override(*changes), folder, storage)
    check_paths(after)
    for key in may_grow:
        was, is_now = attrgetter(key)(before), attrgetter(key)(after)
        if was is not None and is_now is not None and is_now < was:
            raise SettingsError(f"{key}={is_now} is less than before", nearest=f"{key}={was}")
    return after, folder


def _at_current_place(experiment: Resumed, folder: RunFolder, storage: Storage) -> Resumed:
    """The settings with the place where the folder was found, which may have moved since the run started."""
    current = [f"name={folder.path.name}", f"storage.path={folder.home}"]
    if folder.home != str(folder.path.parent):
        current.append(f"storage.endpoint_url={storage.endpoint_url or 'null'}")
    return experiment.override(*current)
