"""The commands `sync`, `submit`, `jobs` and `doctor`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gan_core.settings import SettingsError, unknown
from infra.passwords import masked
from pipelines.jobs import checked, follow, job_table, next_job, rendered, send, stop, unshipped
from pipelines.launch import DONE, CommandLine
from pipelines.settings import CommonSettings, restricted_settings, split_words
from pipelines.sync import deliver, deliver_all

ACTIONS = ("list", "logs", "stop")


def register(app: typer.Typer) -> None:
    """Adds these commands to the others."""
    for command in (sync, submit, jobs, doctor):
        app.command()(command)


def sync(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME] [storage.path=...] [tracking.uri=...]", show_default=False),
    ] = None,
) -> None:
    """Deliver to MLflow what it lacks of a run or search, or of all: after a kill, or once a server is back."""
    names, assignments = split_words(words)
    settings = restricted_settings(CommonSettings, assignments, "storage", "tracking")
    if len(names) > 1:
        raise SettingsError(f"sync takes one name, not {len(names)}", nearest=f"ganfleet sync {names[0]}")
    code = deliver_all(settings.storage, assignments) if not names else deliver(names[0], settings.storage, assignments)
    if code != DONE:
        raise SystemExit(code)


def submit(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="train|search [FAMILY...] [key=value ...]", show_default=False)
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="slurm|kuberay|ray|here", show_default=False)] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Run sbatch, or kubectl apply; otherwise what they would be given is shown.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Of a Ray cluster's dashboard; else RAY_ADDRESS.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="PRESET|FILE", help="As of train and search.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="NAME", help="Go on with this run or search.")] = None,
    from_search: Annotated[str | None, typer.Option(metavar="NAME", help="Train a search's best settings.")] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="RUN|CHECKPOINT", help="Begin a new run with these weights.")
    ] = None,
) -> None:
    """Run train or search as a batch job: ganfleet submit --to slurm --apply search wgan_gp search.trials=32."""
    words = words or []
    verb, rest = (words[0], words[1:]) if words else ("", [])
    submission = checked(verb, CommandLine.of(rest, config, resume, from_search, init_from), to)
    if address is not None and submission.place != "ray":
        raise SettingsError(f"--address {address} has no meaning with --to {to}", nearest="--to ray")
    if submission.place == "here":
        from pipelines.jobs.in_process import play_here

        play_here(verb, submission.request)
        return
    for line in unshipped(submission):
        typer.echo(line, err=True)
    if submission.place != "ray" and not apply:
        shipped = " and ships the modules" * bool(submission.request.experiment.compute.ship)
        typer.echo(f"name={submission.name}; --apply submits it{shipped}", err=True)
        typer.echo(rendered(submission, next_job(submission, address).id), nl=False)
        return
    job = send(submission, address, partial(typer.echo, err=True))
    typer.echo(job.id)
    suffix = submission.request.experiment.storage.command_suffix
    typer.echo(f"{job.name}: ganfleet jobs logs {job.name}{suffix}", err=True)


def jobs(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[list | logs NAME | stop NAME] [storage.path=...]")
    ] = None,
) -> None:
    """List submitted jobs, follow what one writes, or stop one."""
    named, assignments = split_words(words)
    storage = restricted_settings(CommonSettings, assignments, "storage").storage
    action, names = (named[0], named[1:]) if named else ("list", [])
    if action not in ACTIONS:
        raise SettingsError(unknown("jobs", action, ACTIONS))
    if len(names) != (action != "list"):
        right = "jobs list" if action == "list" else f"jobs {action} NAME"
        raise SettingsError(f"jobs {action} takes {'no' if action == 'list' else 'one'} name", nearest=right)
    if action == "list":
        typer.echo(masked("\n".join(job_table(storage))))
    elif action == "logs":
        for piece in follow(names[0], storage):
            sys.stdout.write(piece)
            sys.stdout.flush()
    else:
        job = stop(names[0], storage)
        resume = f"ganfleet {job.verb} --resume {job.name}{storage.command_suffix}"
        typer.echo(f"{job.name}: job {job.id} is told to end; to go on: {resume}, or submit it again")


def doctor(
    assignments: Annotated[
        list[str] | None, typer.Argument(metavar="[storage.path=...] [tracking.uri=...]", show_default=False)
    ] = None,
) -> None:
    """Check this machine, the cluster, the storage and the tracking server; each line is ok, or what to do."""
    settings = restricted_settings(CommonSettings, assignments, "storage", "tracking")

    from pipelines.cli.commands._doctor import examine

    wrong = 0
    for finding in examine(settings):
        typer.echo(masked(str(finding)))
        wrong += not finding.ok
    if wrong:
        raise SystemExit(1)
