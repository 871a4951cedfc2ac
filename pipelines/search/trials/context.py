"""What all trials of a search share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines.code import Code
from pipelines.runs import RunFolder, lineage_tags
from pipelines.settings import SearchExperiment, WorkerResources
from pipelines.tracking.pages import NOTE, data_set
from pipelines.tracking.target import TrackingTarget, tracking_credentials

_OF_SEARCH = ("ganfleet.data.", "ganfleet.fid.", NOTE)


def searched_params(experiment: SearchExperiment) -> list[str]:
    """The searched fields of all families, as MLflow's params name them: `family.lr`."""
    fields = dict.fromkeys(field for space in experiment.spaces().values() for field in space)
    return [field if "." in field else f"family.{field}" for field in fields]


@dataclass(frozen=True)
class SearchContext:
    """What all trials of a search share. It is sent to each trial's worker."""

    experiment: SearchExperiment
    folder: RunFolder
    reference: bytes
    """The reference statistics, serialized."""
    tracking_uri: str
    tracking_experiment: str
    parent: str
    """The id of the search's own run in MLflow."""
    tags: dict[str, str]
    resources: WorkerResources
    code: Code | None = field(default=None, kw_only=True)
    """The user's modules that the experiment needs."""
    credentials: dict[str, str] = field(default_factory=tracking_credentials, repr=False, kw_only=True)
    """Of the tracking store."""

    def target(self, trial_id: str) -> TrackingTarget:
        """A trial's run in MLflow."""
        own = {"ganfleet.trial": trial_id, **lineage_tags(self.folder.trial(trial_id))}
        return self.child("trial", self.folder, trial_id, own)

    def child(self, kind: str, search: RunFolder, path: str, own: dict[str, str]) -> TrackingTarget:
        """A child of the search's run in MLflow. `path`: below the search's name; `own`: tags of this child only.

        What all children share, the search's run has: the data, the measure, the settings that are not searched.
        """
        name = search.path.name
        shared = {key: value for key, value in self.tags.items() if not key.startswith(_OF_SEARCH)}
        return TrackingTarget(
            self.tracking_uri,
            self.tracking_experiment,
            kind=kind,
            identity=f"{search.id}/{path}",
            name=f"{name}/{path}",
            parent=self.parent,
            tags={**shared, "ganfleet.search": name, **own},
            params={"family.name", *searched_params(self.experiment), *(["seed"] if kind == "confirm" else [])},
            data=data_set(self.experiment.data, search),
            credentials=self.credentials,
        )

    @property
    def exploits(self) -> bool:
        """Whether a trial that diverges may take the weights of another."""
        return self.experiment.search.scheduler == "pbt"

    def constants(self, settings: dict[str, Any]) -> dict[str, float]:
        """The current settings as metrics, under population-based training: params cannot change in MLflow."""
        if not self.exploits:
            return {}
        return {f"hyper/{name}": value for name, value in settings.items() if isinstance(value, (int, float))}
