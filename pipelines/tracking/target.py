"""Names the MLflow run of a training run or trial."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gan_core.settings import by_path
from pipelines.runs import RunFolder
from pipelines.settings import TrainExperiment

if TYPE_CHECKING:
    from infra.mlflow.follower import Follower
    from infra.mlflow.pages import DataSet
    from infra.mlflow.tracker import MlflowTracker


_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def tracking_credentials() -> dict[str, str]:
    """MLflow's credentials in this process's environment."""
    return {name: os.environ[name] for name in _CREDENTIALS if name in os.environ}


@dataclass(frozen=True)
class TrackingTarget:
    """What rank 0 needs to open the run in MLflow."""

    uri: str
    experiment_id: str
    kind: str
    identity: str
    name: str
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: Collection[str] | None = None
    """The settings that become params of the run, as dotted paths; None: all. The file `experiment.yaml` has all."""
    data: DataSet | None = None
    credentials: dict[str, str] = field(default_factory=tracking_credentials, repr=False, compare=False)
    """The driver's. A worker on another machine has another environment."""

    def open(self, experiment: TrainExperiment) -> MlflowTracker:
        """Finds or makes the run, with the experiment's settings as params."""
        from infra.mlflow.tracker import MlflowTracker, opened_run

        if not tracking_credentials():
            os.environ.update(self.credentials)
        settings = flat(experiment.model_dump(mode="json", exclude={"name", "tracking", "storage"}))
        run = opened_run(
            self.uri,
            self.experiment_id,
            {"ganfleet.id": self.identity},
            self.name,
            self.parent,
            {name: value for name, value in settings.items() if self.params is None or name in self.params},
            {"ganfleet.kind": self.kind, **self.tags},
            self.data,
        )
        return MlflowTracker(self.uri, run)

    def follower(self, experiment: TrainExperiment, folder: RunFolder) -> Follower:
        """A follower that sends the content of the run folder to MLflow. It opens the run at the first row."""
        from infra.mlflow.follower import Follower

        return Follower(folder.path, lambda: self.open(experiment))


def flat(tree: dict[str, object]) -> dict[str, object]:
    """A nested dict as dotted paths, without the values that are None or have no settings."""
    return {path: value for path, value in by_path(tree).items() if value is not None and value != {}}
