"""`compute.ship`: modules of the user are made importable here, and kept in the run's folder for every later process.

A batch job, and a run that is resumed where the folder is gone, take them from the run's folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from gan_core.files import cache_folder
from gan_core.settings import assign, paths
from infra.files import write_atomic
from pipelines.code import changed_files, check_places, code_files, make_importable, pack
from pipelines.runs import RunFolder, import_code, run_folder
from pipelines.settings import CommonSettings, SearchExperiment, TrainExperiment, as_settings_error

IN_JOB = "GANFLEET_IN_JOB"
"""An environment variable that is set in a batch job, where nobody can correct the command."""
_SHOWN_FILES = 3


def import_shipped(values: Mapping[str, Any], assignments: Sequence[str], folder: RunFolder | None = None) -> None:
    """Makes the modules importable that settings ship, before a family among them is looked for.

    `values`: of a file; `assignments`: of a command line; `folder`: of a run that is resumed. Raises SettingsError.
    """
    words = [word for word in assignments if word.startswith("compute.ship=")]
    compute = values.get("compute")
    in_file = isinstance(compute, Mapping) and bool(compute.get("ship"))
    if not words and not in_file:
        return
    given: dict[str, Any] = {"compute": {"ship": compute["ship"]}} if in_file and compute is not None else {}
    given |= {key: values[key] for key in ("name", "storage") if values.get(key) is not None}
    words += [word for word in assignments if word.startswith(("name=", "storage."))]
    settings = CommonSettings.load(assign(given, words, paths(CommonSettings)))
    if folder is None and settings.name is not None:
        folder = run_folder(settings.storage, settings.name)
    places = settings.compute.ship
    if folder is not None and _from_folder(places) and import_code(folder):
        return
    check_places(places)
    make_importable([place for place in places if place.is_dir()])
    sys.path += [str(place.parent) for place in places if place.is_file() and str(place.parent) not in sys.path]


def _from_folder(places: Sequence[Path]) -> bool:
    """Whether the modules come from the run's folder, if that has them: a job plays what was submitted."""
    return bool(os.environ.get(IN_JOB)) or not all(place.exists() for place in places)


def check_shipped(settings: CommonSettings) -> None:
    """Raises SettingsError if the modules cannot be shipped."""
    if settings.compute.ship and not _from_folder(settings.compute.ship):
        code_files(settings.compute.ship, _apart(settings))


def _apart(settings: CommonSettings) -> list[Path]:
    """Folders that may lie among modules and are none."""
    return [settings.storage.folder, cache_folder()]


def keep_shipped(experiment: TrainExperiment | SearchExperiment, folder: RunFolder) -> list[str]:
    """Packs the modules into the run's folder, from which workers and jobs have them. Returns what a person should
    know. Raises SettingsError."""
    places = experiment.compute.ship
    if not places:
        return []
    with as_settings_error(f"storage.path={folder.home}"):
        folder.refresh_file(folder.code)
        before = folder.code.read_bytes() if is_zipfile(folder.code) else None
        if before is not None and _from_folder(places):
            if os.environ.get(IN_JOB):
                return []
            return [f"compute.ship={_shown(places)} is gone: the modules are those of {folder.shown(folder.code)}"]
        files = code_files(places, _apart(experiment))
        now = pack(files)
        changed = [] if before is None else changed_files(before, now)
        if before is not None and not changed:
            return []
        folder.path.mkdir(parents=True, exist_ok=True)
        write_atomic(folder.code, now)
        folder.upload(folder.code)
    if changed:
        more = f" and {len(changed) - _SHOWN_FILES} more" if len(changed) > _SHOWN_FILES else ""
        names = ", ".join(changed[:_SHOWN_FILES])
        return [f"compute.ship={_shown(places)} has changed since '{folder.path.name}' began: {names}{more}"]
    return [f"shipped: {len(files)} files of {_shown(places)}, {-(-len(now) // 1000):,} kB"]


def _shown(places: Sequence[Path]) -> str:
    return ", ".join(map(str, places))
