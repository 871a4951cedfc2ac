"""The record of a training run in MLflow: delivered when the run ends, or later if the driver was killed or MLflow was
away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console

from gan_core import checkpoint
from infra.mlflow.errors import STORE_ERRORS
from infra.mlflow.tracker import run_of, version_tags
from infra.stores.protocol import StoreError
from pipelines.console import say
from pipelines.runs import RunFolder, last_resumable_step
from pipelines.settings import TrainExperiment
from pipelines.tracking.pages import run_link
from pipelines.tracking.retry import Failure, TrackingRetry, UntrackedNote, print_delivered
from pipelines.tracking.runs import State, as_setting, check_tracking_server, close, prepare_tracking, run_target
from pipelines.tracking.target import TrackingTarget
from pipelines.train.play import resume_checkpoint


def begin_record(experiment: TrainExperiment, folder: RunFolder, tags: dict[str, str]) -> TrackingTarget:
    """Notes that MLflow lacks the run from now on. Returns the run in MLflow, which is not opened yet.

    `tags`: those of the data and of the reference statistics.
    """
    all_tags = {**version_tags(), **tags, **folder.origin}
    target = run_target(experiment, prepare_tracking(experiment), folder, all_tags)
    UntrackedNote(folder).write(all_tags)
    return target


def finished(experiment: TrainExperiment, folder: RunFolder) -> dict[str, Any] | None:
    """What the last checkpoint says of a finished run; None if some rounds are left to play, or the last checkpoint is
    damaged."""
    newest = resume_checkpoint(folder)
    if newest is None:
        return None
    about = checkpoint.describe(newest)
    step, seen = about["step"], about["images_seen"]
    return about if step and step >= experiment.budget.last_round(seen // step) else None


def end_record(
    target: TrackingTarget, experiment: TrainExperiment, folder: RunFolder, state: State, retry: TrackingRetry
) -> Failure | None:
    """Sends all rows to MLflow and ends the run there. Returns why this failed.

    Otherwise nothing is owed, unless the run is finished though `state` is another, or this machine may lack some rows.
    """
    note = UntrackedNote(folder)
    retry.attempt(lambda: close(target, experiment, folder, state, _last_checkpoint(folder, state)))
    if retry.failure is not None:
        with suppress(StoreError):
            note.write(target.tags, retry.failure.reason)
        return retry.failure
    if state == "completed" or (not experiment.storage.remote and finished(experiment, folder) is None):
        note.clear()
    return None


def page_of(experiment: TrainExperiment, target: TrackingTarget, failure: Failure | None) -> str:
    """The address of the run's page in MLflow, or the command that shows it. `failure`: why MLflow lacks some of it."""
    run_id = None
    if experiment.tracking.server and failure is None:
        with suppress(*STORE_ERRORS):
            run_id = run_of(target.uri, target.experiment_id, {"ganfleet.id": target.identity})
    return run_link(experiment, target.experiment_id, run_id)


def deliver_record(experiment: TrainExperiment, folder: RunFolder, console: Console) -> None:
    """Delivers what MLflow lacks of a run that no driver plays. An unfinished run is ended in MLflow as interrupted.

    Raises SettingsError if the store refuses, UnavailableError if it does not answer.
    """
    check_tracking_server(experiment)
    note = UntrackedNote(folder)
    target = run_target(experiment, prepare_tracking(experiment), folder, note.tags)
    refresh(folder, lambda line: say(console, line))
    state: State = "interrupted" if finished(experiment, folder) is None else "completed"
    with as_setting(experiment.tracking_uri):
        close(target, experiment, folder, state, _last_checkpoint(folder, state))
    note.clear()
    print_delivered(console, experiment, folder.path.name)


def refresh(folder: RunFolder, waiting: Callable[[str], None]) -> None:
    """Makes this machine's copy of a run that no driver plays what its last worker left. That worker may live a moment
    longer than its driver: then this calls `waiting` with a line that says so."""
    with folder.sole_writer(waiting):
        folder.refresh_file(folder.metrics)
        last = last_resumable_step(folder)
        folder.refresh(max((step for step in folder.steps() if last is None or step <= last), default=None))


def _last_checkpoint(folder: RunFolder, state: State) -> str | None:
    return str(folder.checkpoints()[-1]) if state == "completed" else None
