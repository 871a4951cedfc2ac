"""What killed processes left: hidden files and folders that they had not renamed yet."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

from gan_core.files import cache_folder
from infra.files import sweep
from infra.locks import HeldError, held
from pipelines.runs._paths import RunPaths
from pipelines.settings import Storage

_WRITERS, _DRIVERS = ("", "checkpoints", "samples"), ("pointer", "learned")
"""The folders inside a run's folder in which its writer, and its driver, make files."""
_MOMENT = 1.0
"""Seconds. `ganfleet submit` may write the record of the job that plays the run just now."""
_DAY = 86400.0
_DECODING = re.compile(r"\.[0-9a-f]{32}\.part")
"""A set of images that is being decoded (`gan_core.data.decode_cache`)."""


def sweep_folder(run: RunPaths) -> None:
    """Deletes what is left in the folder of a run or trial. Only its writer calls it."""
    for inside in _WRITERS:
        sweep(run.path / inside, _MOMENT)


def sweep_run(run: RunPaths, storage: Storage) -> None:
    """Deletes what is left in a run's folder and those of its trials, and what nobody wrote to for a day in the caches.

    Only the run's driver calls it. A folder is left alone while a worker of an earlier driver writes to it.
    """
    trials = chain(run.path.glob("trials/*"), run.path.glob("confirm/trials/*"))
    for path in (run.path, run.path / "confirm", *trials):
        if path.is_dir():
            _sweep_unless_written(RunPaths(path))
    cache = cache_folder()
    for folder in (storage.folder, storage.folder / "cache", cache / "schemas", cache / "packs"):
        sweep(folder, _DAY)
    for packs in (cache / "packs").glob("*"):
        sweep(packs, _DAY)
    sweep(cache / "decoded", _DAY, _DECODING)


def _sweep_unless_written(run: RunPaths) -> None:
    for inside in _DRIVERS:
        sweep(run.path / inside, _MOMENT)
    if not any(_hidden(run.path / inside) for inside in _WRITERS):
        return
    try:
        with held(run.writer):
            sweep_folder(run)
    except HeldError:
        pass


def _hidden(folder: Path) -> bool:
    return any(path.suffix != ".lock" for path in folder.glob(".*"))
