"""The driver's part of MLflow: the store is made before any worker opens it, and runs are closed here.

A stopped trial gets no clean-up of its own, so ending a run cannot be left to whoever trained it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gan_core.settings import SettingsError
from infra.mlflow_tracker import close_run, prepare, version_tags
from pipelines.runs import RunFolder
from pipelines.settings import TrainExperiment, Where
from pipelines.worker import TrackingTarget

EXPERIMENT = "ganfleet"

State = Literal["completed", "stopped", "failed", "interrupted"]
STATUS: dict[State, Literal["FINISHED", "FAILED", "KILLED"]] = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}


def prepare_tracking(settings: Where) -> str:
    """Makes the store and the experiment if they are not there. Returns the experiment's id.

    Raises SettingsError if the store cannot be reached.
    """
    artifacts = settings.storage.folder / "mlartifacts" if settings.tracking.uri is None else None
    try:
        return prepare(settings.tracking_uri, EXPERIMENT, artifacts)
    except ValueError as error:
        raise SettingsError(f"tracking.uri={settings.tracking_uri}: {error}") from None


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
    """Ends a run with its experiment, its lineage and its final checkpoint as artifacts. Returns the run's id.

    `reason`: of a trial's end, empty if it needs none (it may have had one before it went on).
    """
    run_id = target.open(experiment)
    artifacts = {path.name: path for path in (folder.experiment, folder.lineage) if path.is_file()}
    if saved is not None and Path(saved).is_dir() and state != "interrupted":
        artifacts["checkpoint"] = Path(saved)
    tags = {"ganfleet.state": state, **({} if reason is None else {"ganfleet.reason": reason})}
    close_run(target.uri, run_id, STATUS[state], tags, artifacts)
    return run_id
