"""Confirmation: a search's best settings are played again over fresh seeds, each to the end of the full budget.

A search looks at many trials once and takes the lowest FID, which is partly luck: the winner's curse. What is played
again with other seeds was not picked for its luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search.search_algorithm import SearchAlgorithm

from infra.cluster import Cluster
from pipelines.confirmed import Confirmed, Repeat, gathered, to_repeat
from pipelines.outcome import Outcome
from pipelines.runs import RunFolder
from pipelines.search import Relay, Watch, planned, trial_id
from pipelines.trial import SearchContext
from pipelines.worker import TrackingTarget


@dataclass(frozen=True)
class ConfirmContext(SearchContext):
    """What all confirmed runs share. `folder` is `NAME/confirm`, and each run is a child of the search in MLflow."""

    search: RunFolder

    def target(self, trial_id: str) -> TrackingTarget:
        """The child run of one setting with one seed."""
        trial, _, seed = trial_id.rpartition("-")
        name = self.search.path.name
        own = {"ganfleet.trial": trial, "ganfleet.seed": seed, "ganfleet.search": name}
        return TrackingTarget(
            self.tracking_uri,
            self.tracking_experiment,
            kind="confirm",
            identity=f"{self.search.id}/confirm/{trial_id}",
            name=f"{name}/confirm/{trial_id}",
            parent=self.parent,
            tags={**self.tags, **own},
        )


class Listed(SearchAlgorithm):
    """Hands out repeats to Tune, those that it has not got yet. It keeps nothing itself: a restored run, whose list
    may be longer now, plays what is missing."""

    repeats: ClassVar[Sequence[Repeat]]
    """Of this process: what is pickled and restored with the run may be older."""
    concurrent: ClassVar[int]

    def add_configurations(self, experiments: Any) -> None:
        """Told by a new run; a restored one has trials to go by."""
        (self._experiment,) = experiments

    def next_trial(self) -> TuneTrial | None:
        """The next repeat, if there is room for one more."""
        known = Relay.watch.trials
        if self.is_finished() or sum(not trial.is_finished() for trial in known) >= self.concurrent:
            return None
        ids = {trial.trial_id for trial in known}
        repeat = next(one for one in self.repeats if one.id not in ids)
        run, storage = (
            (known[0].trainable_name, known[0].storage)
            if known
            else (self._experiment.spec["run"], self._experiment.spec["storage"])
        )
        trial = TuneTrial(
            run,
            config={"settings": repeat.trial.settings, "seed": repeat.seed},
            trial_id=repeat.id,
            storage=storage,
            trial_dirname_creator=trial_id,
        )
        assert trial.storage is not None
        trial.storage.trial_dir_name = None  # its own copy; another trial's names that one's folder
        return trial

    def is_finished(self) -> bool:
        """Whether Tune has them all."""
        return self._finished or {one.id for one in self.repeats} <= {trial.trial_id for trial in Relay.watch.trials}

    def has_checkpoint(self, dirpath: str) -> bool:
        """There is nothing to restore."""
        return False


def confirm(context: SearchContext, room: Cluster, outcomes: Sequence[Outcome]) -> tuple[list[Confirmed], bool]:
    """Plays what of the confirmation was not yet played. Returns the settings, the winner first, and whether all has
    come to an end.

    Called with the search's watch still in place; its view shows the repeats from here on.
    """
    folder = RunFolder(context.folder.path / "confirm")
    begun = {path.name.rpartition("-")[0] for path in folder.path.glob("trials/*")}
    repeats = to_repeat(context.experiment, outcomes, begun)
    if not repeats:
        return [], True
    shared = {field.name: getattr(context, field.name) for field in fields(SearchContext)}
    confirming = ConfirmContext(**{**shared, "folder": folder}, search=context.folder)
    view = Relay.watch.view
    view.confirm(len({one.trial.trial for one in repeats}), context.experiment.search.confirm_seeds)
    Relay.watch = watch = Watch(confirming, view)
    Listed.repeats = repeats

    def listed(concurrent: int) -> tuple[SearchAlgorithm, FIFOScheduler]:
        Listed.concurrent = concurrent
        return Listed(), FIFOScheduler()

    planned(confirming, room, True, len(repeats), listed).fit()
    played = watch.settle()
    ended = {one.trial for one in played if one.ended}
    confirmed = gathered(repeats, played, folder)
    return confirmed, all(one.id in ended for one in repeats)
