"""The command `runs`: lists, compares and removes runs and searches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gan_core.settings import SettingsError
from infra.files import write_atomic
from infra.passwords import masked
from infra.threads import each
from pipelines.cli.commands._outputs import check_file, exported, json_text
from pipelines.cli.commands._run_summary import RunSummary, compared, differences, listed, summary_of
from pipelines.jobs import active_job
from pipelines.runs import RunFolder, find_run, run_names
from pipelines.settings import CommonSettings, Storage, restricted_settings, split_words

THREADS = 8


def register(app: typer.Typer) -> None:
    """Adds the command to the others."""
    app.command()(runs)


def runs(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...] [storage.path=...]", show_default=False)
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the named runs and searches.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before.")] = False,
    json_file: Annotated[str | None, typer.Option("--json", help="Write what is printed to FILE.")] = None,
) -> None:
    """List runs and searches; compare those that are named, setting by setting; remove them."""
    names, assignments = split_words(words)
    names = list(dict.fromkeys(names))
    settings = restricted_settings(CommonSettings, assignments, "storage", "tracking")
    if remove and not names:
        raise SettingsError("--remove needs a name", nearest="ganfleet runs --remove NAME")
    for option, given in (("--yes", yes and not remove), ("--json", json_file is not None and remove)):
        if given:
            right = "leave it out" if remove else "ganfleet runs --remove NAME --yes"
            raise SettingsError(f"{option} has no meaning {'with' if remove else 'without'} --remove", nearest=right)
    if json_file is not None and not json_file.startswith("s3://"):
        check_file("--json", Path(json_file))
    known = names or run_names(settings.storage)
    folders = [find_run(name, settings.storage) for name in known]
    if remove:
        _remove(folders, settings, yes)
        return
    if not folders:
        typer.echo(f"there is no run in {settings.storage.location}")
    found = _summaries(folders)
    if not names:
        found.sort(key=lambda one: -one.written)
    if json_file is not None:
        _write(json_file, found, settings.storage)
    if found:
        typer.echo(masked("\n".join(compared(found) if len(names) > 1 else listed(found))))


def _summaries(folders: Sequence[RunFolder]) -> list[RunSummary]:
    found: dict[str, RunSummary] = {}

    def read(folder: RunFolder) -> None:
        found[folder.where] = summary_of(folder)

    each(read, folders, THREADS)
    return [found[folder.where] for folder in folders]


def _write(file: str, found: Sequence[RunSummary], storage: Storage) -> None:
    content = {"runs": [one.to_json() for one in found], "differ": list(differences(found))}
    with exported("--json", file, storage) as path:
        write_atomic(path, json_text(content).encode())


def _remove(folders: Sequence[RunFolder], settings: CommonSettings, yes: bool) -> None:
    """Deletes runs that nobody plays. Raises SettingsError before any is deleted."""
    for folder in folders:
        name = folder.path.name
        if folder.driven():
            raise SettingsError(f"'{name}' is being played", nearest="wait for its end, or end its driver by Ctrl-C")
        job = active_job(folder)
        if job is not None:
            right = f"ganfleet jobs stop {name}{settings.storage.command_suffix}"
            raise SettingsError(f"'{name}' is of the job {job.id}, which has not ended", nearest=right)
    if not yes and not sys.stdin.isatty():
        raise SettingsError("--remove asks before it deletes, and nobody can answer here", nearest="--yes")
    for folder in folders:
        if folder.untracked.is_file():
            again = f"ganfleet sync {folder.path.name}{settings.storage.command_suffix}"
            typer.echo(f"{folder.where}: MLflow may lack some of it; to deliver that first: {again}", err=True)
        elsewhere = "; a driver on another machine would not be seen" if settings.storage.remote else ""
        if yes or typer.confirm(f"delete {masked(folder.where)}{elsewhere}?"):
            folder.remove()
            typer.echo(masked(f"{folder.where} is deleted; its runs, pictures and models in MLflow stay"))
