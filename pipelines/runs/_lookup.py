"""How a name on the command line finds a run or search, in a folder or in S3."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import BadZipFile

from gan_core.settings import SettingsError, nearest, parse_yaml
from pipelines.code import make_importable, unpacked
from pipelines.runs._folder import RunFolder
from pipelines.settings import Storage, as_settings_error


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
        found = Path(target).resolve()
        for place in list(found.parents)[1:4:2]:  # the run's folder, or that of a trial's search
            import_code(RunFolder(place))
        return found
    return newest_checkpoint(find_run(target, storage), target)


def newest_checkpoint(run: RunFolder, target: str = "") -> Path:
    """A run's newest checkpoint, or that of a search's best trial. `target`: how the user named it. Raises
    SettingsError if there is none."""
    target = target or run.path.name
    import_own_code(run)
    if run.best.is_file():
        return run.local_checkpoint(run.path / json.loads(run.best.with_suffix(".json").read_text())["checkpoint"])
    if run.of_search:
        raise SettingsError(f"the search '{target}' has no best trial yet", nearest=f"--resume {target}")
    steps = run.steps()
    if not steps:
        raise SettingsError(f"the run '{target}' has no checkpoint yet", nearest=f"--resume {target}")
    return run.local_checkpoint(run.checkpoint(steps[-1]))


def import_code(run: RunFolder) -> bool:
    """Makes the modules importable that a run was played with, as far as its folder has them. Returns whether it has.

    Raises SettingsError if the store does not answer, or if they are damaged.
    """
    with as_settings_error(f"storage.path={run.home}"):
        run.refresh_file(run.code)
    if not run.code.is_file():
        return False
    try:
        make_importable([unpacked(run.code.read_bytes())])
    except BadZipFile as error:
        raise SettingsError(f"{run.shown(run.code)} is damaged: {error}", nearest="delete it") from None
    return True


def import_own_code(run: RunFolder) -> None:
    """Makes the modules importable that the settings of a run that has started ship. Raises SettingsError."""
    compute = parse_yaml(run.experiment.read_text()).get("compute")
    if isinstance(compute, dict) and compute.get("ship"):
        import_code(run)


def run_names(storage: Storage) -> list[str]:
    """The runs and searches below a storage path."""
    return names_with_file("experiment.yaml", storage)


def names_with_file(file: str, storage: Storage) -> list[str]:
    """The names below a storage path whose folder has such a file."""
    if storage.remote:
        from pipelines.runs._s3_folder import s3_names_with_file

        return s3_names_with_file(file, storage)
    return sorted(path.parent.name for path in storage.folder.glob(f"*/{file}"))
