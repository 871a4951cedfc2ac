"""`--resume NAME`: budgets, resources and places may change, the settings of the game may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gan_core.settings import SettingsError, nearest
from pipelines.runs import RunFolder, find_run
from pipelines.settings import CommonSettings, SearchExperiment, Storage, TrainExperiment

Resumed = TypeVar("Resumed", bound=CommonSettings)

BOTH_MAY_CHANGE = (
    *("tracking.uri", "compute.workers", "compute.min_workers", "compute.device", "compute.cpus", "compute.gpus"),
    *("storage.endpoint_url", "storage.cache_gb"),
)
TRAIN_MAY_CHANGE = ("budget.rounds", "budget.images", *BOTH_MAY_CHANGE)
SEARCH_MAY_GROW = ("trials", "hours", "images", "confirm", "confirm_seeds")
SEARCH_MAY_CHANGE = (*(f"search.{name}" for name in SEARCH_MAY_GROW), "search.max_concurrent", *BOTH_MAY_CHANGE)


def resumed_train(name: str, assignments: Sequence[str]) -> tuple[TrainExperiment, RunFolder]:
    """The settings of a training run with the changes that are allowed, and its folder. Raises SettingsError."""
    storage, changes = _split_storage(assignments)
    folder = find_run(name, storage)
    if folder.of_search:
        raise SettingsError(f"'{name}' is a search", nearest=f"ganfleet search --resume {name}")
    _check(changes, TRAIN_MAY_CHANGE)
    before = TrainExperiment.from_yaml(folder.experiment.read_text())
    after = _at_current_place(before.override(*changes), folder, storage)
    for name in ("rounds", "images"):
        was, is_now = before.model_dump()["budget"][name], after.model_dump()["budget"][name]
        if was is not None and is_now is not None and is_now < was:
            raise SettingsError(f"budget.{name}={is_now} is less than before", nearest=f"budget.{name}={was}")
    return after, folder


def resumed_search(name: str, assignments: Sequence[str]) -> tuple[SearchExperiment, RunFolder]:
    """The settings of a search with the changes that are allowed, and its folder. Raises SettingsError."""
    storage, changes = _split_storage(assignments)
    folder = find_run(name, storage)
    if not folder.of_search:
        raise SettingsError(f"'{name}' is a training run", nearest=f"ganfleet train --resume {name}")
    _check(changes, SEARCH_MAY_CHANGE)
    before = SearchExperiment.from_yaml(folder.experiment.read_text())
    after = _at_current_place(before.override(*changes), folder, storage)
    for name in SEARCH_MAY_GROW:
        was, is_now = getattr(before.search, name), getattr(after.search, name)
        if was is not None and is_now is not None and is_now < was:
            raise SettingsError(f"search.{name}={is_now} is less than before", nearest=f"search.{name}={was}")
    return after, folder


def _split_storage(assignments: Sequence[str]) -> tuple[Storage, list[str]]:
    """Separates the settings that say where the run is from those that the command line changes."""
    places = [word for word in assignments if word.startswith(("storage.path=", "storage.endpoint_url="))]
    changes = [word for word in assignments if not word.startswith("storage.path=")]
    return CommonSettings().override(*places).storage, changes


def _check(changes: Sequence[str], allowed: Sequence[str]) -> None:
    for word in changes:
        key = word.partition("=")[0]
        if key not in allowed:
            raise SettingsError(
                f"{key} cannot change with --resume",
                nearest=f"{nearest(key, allowed)} (may change: {', '.join(allowed)})",
            )


def _at_current_place(experiment: Resumed, folder: RunFolder, storage: Storage) -> Resumed:
    """The settings with the place where the folder was found, which may have moved since the run started."""
    current = [f"name={folder.path.name}", f"storage.path={folder.home}"]
    if folder.home != str(folder.path.parent):
        current.append(f"storage.endpoint_url={storage.endpoint_url or 'null'}")
    return experiment.override(*current)
