"""The driver's part of MLflow: the store is made before any worker opens it, and runs are closed here.

A stopped trial gets no clean-up of its own, so ending a run cannot be left to whoever trained it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from gan_core.caches import cache_folder
from gan_core.settings import SettingsError
from infra.mlflow.follower import Follower
from infra.mlflow.store import NoAnswerError, ask_server
from infra.mlflow.tracker import MlflowTracker, close_run, prepare, run_of, version_tags
from infra.passwords import masked
from infra.system_metrics import interval
from pipelines.errors import AwayError
from pipelines.runs import RunFolder
from pipelines.settings import TrainExperiment, Where
from pipelines.tracking.target import TrackingTarget

EXPERIMENT = "ganfleet"

State = Literal["completed", "stopped", "failed", "interrupted"]
STATUS: dict[State, Literal["FINISHED", "FAILED", "KILLED"]] = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


def ask_tracking(settings: Where) -> None:
    """Asks a server whether it lets us in, before anything else is done.

    Raises SettingsError if none answers, if it refuses our credentials, or for a variable that MLflow does not take.
    """
    try:
        interval()
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if settings.tracking.server:
        with _named(settings.tracking_uri):
            ask_server(settings.tracking_uri, EXPERIMENT)


def prepare_tracking(settings: Where) -> str:
    """Makes the store and the experiment if they are not there. Returns the experiment's id.

    Raises SettingsError if the store cannot be reached.
    """
    artifacts = settings.storage.folder / "mlartifacts" if settings.tracking.uri is None else None
    with _named(settings.tracking_uri):
        return prepare(settings.tracking_uri, EXPERIMENT, artifacts, cache_folder() / "schemas")


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Turns what is wrong with a store into what is wrong with the setting."""
    try:
        yield
    except ValueError as error:
        reason = str(error).removeprefix(masked(f"tracking uri {uri!r}: "))
        kind = AwayError if isinstance(error, NoAnswerError) else SettingsError
        raise kind(masked(f"tracking.uri={uri}: {reason}")) from None


def run_target(
    settings: TrainExperiment, experiment_id: str, folder: RunFolder, tags: dict[str, str]
) -> TrackingTarget:
    """The MLflow run of one training run."""
    return TrackingTarget(
        settings.tracking_uri,
        experiment_id,
        kind="train",
        identity=folder.id,
        name=folder.path.name,
        tags={**version_tags(), **tags},
    )


def close(
    target: TrackingTarget,
    experiment: TrainExperiment,
    folder: RunFolder,
    state: State,
    saved: str | None,
    reason: str | None = None,
) -> str:
    """Ends a run with all rows that its folder holds, and with its experiment, its lineage and its final checkpoint as
    artifacts. Returns the run's id.

    `reason`: of a trial's end, empty if it needs none (it may have had one before it went on). Raises one of `AWAY` if
    the store cannot be reached.
    """
    run_id = target.follower(experiment, folder).bring().run_id
    artifacts = {path.name: path for path in (folder.experiment, folder.lineage) if path.is_file()}
    if saved is not None and Path(saved).is_dir() and state != "interrupted":
        artifacts["checkpoint"] = Path(saved)
    tags = {"ganfleet.state": state, **({} if reason is None else {"ganfleet.reason": reason})}
    close_run(target.uri, run_id, STATUS[state], tags, artifacts)
    return run_id


def catch_up(target: TrackingTarget, folder: RunFolder) -> None:
    """Brings what the folder of a run that was ended holds more: a group of workers goes on until it is stopped.

    Raises one of `AWAY` if the store cannot be reached.
    """
    run = run_of(target.uri, target.experiment_id, {"ganfleet.id": target.identity})
    if run is not None:
        Follower(folder.path, lambda: MlflowTracker(target.uri, run)).bring()
