"""What MLflow lacks of a run or search is delivered: by `ganfleet sync`, or by a command line that is typed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import typer

from gan_core.settings import SettingsError
from pipelines.console import quiet
from pipelines.launch import DONE, FAILED, INTERRUPTED, Request, as_found, logged, resumed_search, resumed_train
from pipelines.runs import NameTakenError, RunFolder, find_run, names_with_file
from pipelines.settings import SearchExperiment, Storage, UnavailableError, as_settings_error


def deliver_all(storage: Storage, assignments: Sequence[str]) -> int:
    """Delivers what MLflow lacks of all runs and searches below a storage path. Returns the exit code.

    Runs in S3 are named and left out: a driver of theirs on another machine cannot be seen.
    """
    names = names_with_file("untracked", storage)
    if not names:
        typer.echo(f"MLflow lacks nothing of {storage.location}")
    if storage.remote:
        for name in names:
            again = f"ganfleet sync {name}{storage.command_suffix}"
            typer.echo(f"{name}: skipped, as S3 does not tell whether a driver plays it; if none does: {again}")
        return DONE
    codes = [deliver(name, storage, assignments) for name in names]
    return next((code for code in (INTERRUPTED, FAILED) if code in codes), DONE)


def deliver(name: str, storage: Storage, assignments: Sequence[str]) -> int:
    """Delivers what MLflow lacks of one run or search, and prints how it went.

    `assignments`: those of the command line. Returns the exit code: FAILED if MLflow refuses, INTERRUPTED if it does
    not answer. Raises SettingsError for an unknown name.
    """
    folder = find_run(name, storage)
    if not folder.untracked.is_file():
        typer.echo(f"MLflow lacks nothing of {name}")
        return DONE
    try:
        _deliver(name, folder.of_search, assignments)
    except NameTakenError:
        typer.echo(f"{name}: skipped, a driver plays it")
    except SettingsError as error:
        typer.echo(f"error: {name}: {error}", err=True)
        return INTERRUPTED if isinstance(error, UnavailableError) else FAILED
    return DONE


def _deliver(name: str, of_search: bool, assignments: Sequence[str]) -> None:
    resume: Any = resumed_search if of_search else resumed_train
    experiment, folder = resume(name, assignments)
    deliver_record: Any
    if of_search:
        from pipelines.search.record import deliver_record
    else:
        from pipelines.train.record import deliver_record
    place = as_settings_error(f"storage.path={folder.home}")
    with folder.sole_driver(), logged(folder.log), quiet(folder.ray_log) as console, place:
        deliver_record(experiment, folder, console)


def typed_again(request: Request[Any]) -> Request[Any]:
    """Turns the request of a new run into a resumption if it is that of a finished run with the same settings, of which
    MLflow lacks something."""
    folder: RunFolder = request.folder
    if request.resumed or request.made_up or not folder.exists() or not folder.untracked.is_file() or folder.driven():
        return request
    of_search = isinstance(request.experiment, SearchExperiment)
    if folder.of_search != of_search:
        return request
    resume: Any = resumed_search if of_search else resumed_train
    before, _ = resume(folder.path.name, request.experiment.storage.assignments)
    own, experiment = {"storage", "tracking"}, as_found(request.experiment, before.data)
    if before.model_dump(exclude=own) != experiment.model_dump(exclude=own):
        return request
    request = replace(request, experiment=experiment)
    with as_settings_error(f"storage.path={folder.home}"):
        if of_search:
            from pipelines.search.record import finished

            return replace(request, resumed=finished(request.experiment, folder))
        from pipelines.train import record

        record.refresh(folder, typer.echo)
        return replace(request, resumed=record.finished(request.experiment, folder) is not None)
