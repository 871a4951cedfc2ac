"""The driver's part of MLflow: it makes the store before any worker opens it, and it ends the runs.

A trial that Tune stops has no chance to end its own run in MLflow, so the driver ends them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from infra.mlflow.errors import STORE_ERRORS, reason_of, refuses
from infra.mlflow.follower import Follower
from infra.mlflow.store import NoAnswerError, ask_server
from infra.mlflow.tracker import MlflowTracker, close_run, prepare, run_of
from infra.passwords import masked
from infra.system_metrics import interval
from pipelines.runs import RunFolder
from pipelines.settings import CommonSettings, TrainExperiment, UnavailableError
from pipelines.tracking.pages import EXPERIMENT, data_set, described, last_measured, note, sample_picture, view_of_all
from pipelines.tracking.retry import Failure
from pipelines.tracking.target import TrackingTarget, flat

State = Literal["completed", "stopped", "failed", "interrupted"]
STATUS: dict[State, Literal["FINISHED", "FAILED", "KILLED"]] = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


def check_tracking_server(settings: CommonSettings) -> None:
    """Checks that the tracking server answers and accepts our credentials.

    Raises SettingsError if it does not, or if an environment variable of MLflow has an invalid value.
    """
    try:
        interval()
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if settings.tracking.server:
        with as_setting(settings.tracking_uri):
            ask_server(settings.tracking_uri, EXPERIMENT)


def prepare_tracking(settings: CommonSettings, views: dict[str, str] | None = None) -> str:
    """Makes the store and the experiment unless they exist. Returns the experiment's id.

    `views`: tags of the experiment that say what its pages show.

    Raises SettingsError if the store cannot be reached.
    """
    artifacts = settings.storage.folder / "mlartifacts" if settings.tracking.uri is None else None
    with as_setting(settings.tracking_uri):
        tags = {**view_of_all(), **(views or {})}
        return prepare(settings.tracking_uri, EXPERIMENT, artifacts, cache_folder() / "schemas", tags)


def undelivered_error(settings: CommonSettings, failure: Failure) -> SettingsError:
    """The error of a command that delivers: the store refuses the rest, or (UnavailableError) it is away."""
    kind = SettingsError if failure.refused else UnavailableError
    return kind(masked(f"tracking.uri={settings.tracking_uri}: {failure.reason}"))


@contextmanager
def as_setting(uri: str) -> Iterator[None]:
    """Raises an error of the store as SettingsError that names `tracking.uri`."""
    try:
        yield
    except STORE_ERRORS as error:
        kind = SettingsError if refuses(error) else UnavailableError
        raise kind(masked(f"tracking.uri={uri}: {reason_of(error)}")) from error
    except ValueError as error:
        reason = str(error).removeprefix(masked(f"tracking uri {uri!r}: "))
        kind = UnavailableError if isinstance(error, NoAnswerError) else SettingsError
        raise kind(masked(f"tracking.uri={uri}: {reason}")) from None


def run_target(
    settings: TrainExperiment, experiment_id: str, folder: RunFolder, tags: dict[str, str]
) -> TrackingTarget:
    """The MLflow run that belongs to a training run; `tags`: all that it gets."""
    return TrackingTarget(
        settings.tracking_uri,
        experiment_id,
        kind="train",
        identity=folder.id,
        name=folder.path.name,
        tags={**note(folder, f"A training run of {settings.family.name}", tags=tags), **tags},
        data=data_set(settings.data, folder),
    )


def close(
    target: TrackingTarget,
    experiment: TrainExperiment,
    folder: RunFolder,
    state: State,
    saved: str | None,
    reason: str | None = None,
) -> str:
    """Ends a run in MLflow. It sends all rows of the run folder first, adds the experiment, the lineage and the final
    checkpoint as artifacts, and describes how it went. Returns the run's id.

    `reason`: why a trial ended. An empty one replaces the reason that a resumed trial had before. Raises one of
    `STORE_ERRORS`.
    """
    run_id = target.follower(experiment, folder).catch_up().run_id
    artifacts = {path.name: path for path in (folder.experiment, folder.lineage) if path.is_file()}
    if saved is not None and Path(saved).is_dir() and state != "interrupted":
        artifacts["checkpoint"] = Path(saved)
    tags = {"ganfleet.state": state, **({} if reason is None else {"ganfleet.reason": reason})}
    tags |= _description(target, experiment, folder, f"{state}: {reason}" if reason else state, run_id)
    close_run(target.uri, run_id, STATUS[state], tags, artifacts)
    return run_id


def _description(
    target: TrackingTarget, experiment: TrainExperiment, folder: RunFolder, ending: str, run_id: str
) -> dict[str, str]:
    shown = {"family"} if target.params is None else {"family", "data", "seed"}
    settings = flat(experiment.model_dump(mode="json", include=shown))
    settings = {name: value for name, value in settings.items() if target.params is None or name in target.params}
    headline = f"{last_measured(folder, experiment.metrics.measures)}, {ending}"
    line = f"{experiment.family.name}: {described(settings, 'family.name')}"
    return note(folder, headline, line, target.tags, sample_picture(run_id, folder))


def catch_up(target: TrackingTarget, folder: RunFolder) -> None:
    """Sends the rows that were logged after the run was ended in MLflow: a worker group runs on until it is stopped.

    Raises one of `STORE_ERRORS`.
    """
    run = run_of(target.uri, target.experiment_id, {"ganfleet.id": target.identity})
    if run is not None:
        Follower(folder.path, lambda: MlflowTracker(target.uri, run)).catch_up()
