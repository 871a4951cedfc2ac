"""How a name on the command line finds a run or search, in a folder or in S3."""

from __future__ import annotations

import json
from pathlib import Path

from gan_core.settings import SettingsError, nearest
from pipelines.runs._folder import RunFolder
from pipelines.settings import Storage


def run_folder(storage: Storage, name: str) -> RunFolder:
    """The folder of a run or search, which need not have started."""
    if storage.remote:
        from pipelines.runs._s3_folder import S3RunFolder

        return S3RunFolder.at(storage, name)
    return RunFolder(storage.folder / name)


def find_run(name: str, storage: Storage) -> RunFolder:
    """The run or search of that name, or at that path or URL. Raises SettingsError with the nearest name."""
    for folder in _candidates(name, storage):
        if folder.exists():
            return folder
    known = run_names(storage)
    right = nearest(name, known) if known else "none, there is no run yet"
    raise SettingsError(f"no run named '{name}' in {storage.location}", nearest=right)


def _candidates(name: str, storage: Storage) -> list[RunFolder]:
    if name.startswith("s3://"):
        place, _, last = name.rstrip("/").rpartition("/")
        return [run_folder(storage.override(f"path={place}"), last)]
    path = Path(name)
    only_local = storage.remote and (path.is_absolute() or ".." in path.parts)
    return [*([] if only_local else [run_folder(storage, name)]), RunFolder(path.resolve())]


def find_checkpoint(target: str, storage: Storage) -> Path:
    """A checkpoint folder, a run's newest checkpoint, or that of a search's best trial.

    Raises SettingsError if there is none.
    """
    if (Path(target) / "checkpoint.json").is_file():
        return Path(target).resolve()
    run = find_run(target, storage)
    if run.best.is_file():
        return run.local_checkpoint(run.path / json.loads(run.best.with_suffix(".json").read_text())["checkpoint"])
    if run.of_search:
        raise SettingsError(f"the search '{target}' has no best trial yet", nearest=f"--resume {target}")
    steps = run.steps()
    if not steps:
        raise SettingsError(f"the run '{target}' has no checkpoint yet", nearest=f"--resume {target}")
    return run.local_checkpoint(run.checkpoint(steps[-1]))


def run_names(storage: Storage) -> list[str]:
    """The runs and searches below a storage path."""
    return names_with_file("experiment.yaml", storage)


def names_with_file(file: str, storage: Storage) -> list[str]:
    """The names below a storage path whose folder has such a file."""
    if storage.remote:
        from pipelines.runs._s3_folder import s3_names_with_file

        return s3_names_with_file(file, storage)
    return sorted(path.parent.name for path in storage.folder.glob(f"*/{file}"))
