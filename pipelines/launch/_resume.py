"""What `--resume NAME` may change: how long, how many and where, never the game itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from gan_core.settings import SettingsError, nearest
from pipelines.runs import RunFolder, find_run
from pipelines.settings import CommonSettings, SearchExperiment, Storage, TrainExperiment

Placed = TypeVar("Placed", bound=CommonSettings)

WHERE = ("tracking.uri", "compute.workers", "compute.min_workers", "compute.device", "compute.cpus", "compute.gpus")
PACKS = ("storage.endpoint_url", "storage.cache_gb")
TRAIN_MAY_CHANGE = ("budget.rounds", "budget.images", *WHERE, *PACKS)
SEARCH_MAY_GROW = ("trials", "hours", "images", "confirm", "confirm_seeds")
SEARCH_MAY_CHANGE = (*(f"search.{name}" for name in SEARCH_MAY_GROW), "search.max_concurrent", *WHERE, *PACKS)


def resumed_train(name: str, assignments: Sequence[str]) -> tuple[TrainExperiment, RunFolder]:
    """A training run's own settings with those changed that may be. Raises SettingsError."""
    storage, changes = _split_storage(assignments)
    folder = find_run(name, storage)
    if folder.of_search:
        raise SettingsError(f"'{name}' is a search; nearest: ganfleet search --resume {name}")
    _check(changes, TRAIN_MAY_CHANGE)
    before = TrainExperiment.from_yaml(folder.experiment.read_text())
    after = _in_place(before.override(*changes), folder, storage)
    for name in ("rounds", "images"):
        was, is_now = before.model_dump()["budget"][name], after.model_dump()["budget"][name]
        if was is not None and is_now is not None and is_now < was:
            raise SettingsError(f"budget.{name}={is_now} is less than before; nearest: budget.{name}={was}")
    return after, folder


def resumed_search(name: str, assignments: Sequence[str]) -> tuple[SearchExperiment, RunFolder]:
    """A search's own settings with those changed that may be. Raises SettingsError."""
    storage, changes = _split_storage(assignments)
    folder = find_run(name, storage)
    if not folder.of_search:
        raise SettingsError(f"'{name}' is a training run; nearest: ganfleet train --resume {name}")
    _check(changes, SEARCH_MAY_CHANGE)
    before = SearchExperiment.from_yaml(folder.experiment.read_text())
    after = _in_place(before.override(*changes), folder, storage)
    for name in SEARCH_MAY_GROW:
        was, is_now = getattr(before.search, name), getattr(after.search, name)
        if was is not None and is_now is not None and is_now < was:
            raise SettingsError(f"search.{name}={is_now} is less than before; nearest: search.{name}={was}")
    return after, folder


def _split_storage(assignments: Sequence[str]) -> tuple[Storage, list[str]]:
    """Where the run is to be found, and what is to change."""
    where = [word for word in assignments if word.startswith(("storage.path=", "storage.endpoint_url="))]
    return CommonSettings().override(*where).storage, [
        word for word in assignments if not word.startswith("storage.path=")
    ]


def _check(changes: Sequence[str], allowed: Sequence[str]) -> None:
    for word in changes:
        key = word.partition("=")[0]
        if key not in allowed:
            raise SettingsError(
                f"{key} cannot change with --resume; nearest: {nearest(key, allowed)}"
                f" (may change: {', '.join(allowed)})"
            )


def _in_place(experiment: Placed, folder: RunFolder, storage: Storage) -> Placed:
    """The settings where the folder is now, wherever it was made; in S3 at the address where it was found."""
    here = [f"name={folder.path.name}", f"storage.path={folder.home}"]
    if folder.home != str(folder.path.parent):
        here.append(f"storage.endpoint_url={storage.endpoint_url or 'null'}")
    return experiment.override(*here)
