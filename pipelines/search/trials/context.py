"""What all trials of a search share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.runs import RunFolder, lineage_tags
from pipelines.settings import SearchExperiment, WorkerResources
from pipelines.tracking.target import TrackingTarget


@dataclass(frozen=True)
class SearchContext:
    """What all trials of a search share."""

    experiment: SearchExperiment
    folder: RunFolder
    reference: bytes
    tracking_uri: str
    tracking_experiment: str
    parent: str
    tags: dict[str, str]
    shares: WorkerResources

    def target(self, trial_id: str) -> TrackingTarget:
        """The child run of a trial."""
        own = {"ganfleet.trial": trial_id, **lineage_tags(self.folder.trial(trial_id))}
        return self.child("trial", self.folder, trial_id, own)

    def child(self, kind: str, search: RunFolder, path: str, own: dict[str, str]) -> TrackingTarget:
        """A child of the search's run, with tags of its own."""
        name = search.path.name
        return TrackingTarget(
            self.tracking_uri,
            self.tracking_experiment,
            kind=kind,
            identity=f"{search.id}/{path}",
            name=f"{name}/{path}",
            parent=self.parent,
            tags={**self.tags, "ganfleet.search": name, **own},
        )

    def constants(self, settings: dict[str, Any]) -> dict[str, float]:
        """Under population-based training the settings of the time, as metrics: MLflow's params never change."""
        if self.experiment.search.scheduler != "pbt":
            return {}
        return {f"hyper/{name}": value for name, value in settings.items() if isinstance(value, (int, float))}
