"""Confirmation: a search's best settings are played again over fresh seeds, each to the end of the full budget.

A search looks at many trials once and takes the lowest FID, which is partly luck: the winner's curse. What is played
again with other seeds was not picked for its luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from infra.cluster import Cluster
from pipelines.runs import RunFolder
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.results import ConfirmedTrial, SeedRun, gather_results, seed_runs
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor
from pipelines.search.trials.suggestions import Suggestions
from pipelines.search.trials.tuner import play_trials
from pipelines.settings import concurrent_trials
from pipelines.tracking.target import TrackingTarget


@dataclass(frozen=True)
class ConfirmContext(SearchContext):
    """What all confirmed runs share. `folder` is `NAME/confirm`, and each run is a child of the search in MLflow."""

    search: RunFolder

    def target(self, trial_id: str) -> TrackingTarget:
        """The child run of one setting with one seed."""
        trial, _, seed = trial_id.rpartition("-")
        return self.child(
            "confirm", self.search, f"confirm/{trial_id}", {"ganfleet.trial": trial, "ganfleet.seed": seed}
        )

    def constants(self, settings: dict[str, Any]) -> dict[str, float]:
        """None: settings stay as they are, after population-based training too."""
        return {}


class SeedRunSearcher(Searcher):
    """What each repeat plays, by its name."""

    def __init__(self, repeats: Sequence[SeedRun]) -> None:
        super().__init__()
        self._configs = {one.id: {"settings": one.trial.settings, "seed": one.seed} for one in repeats}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """`{"settings": {"name": family, field: value}, "seed": seed}`."""
        return self._configs.get(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """There is nothing to learn."""


def confirm(
    context: SearchContext, room: Cluster, outcomes: Sequence[Outcome], view: SearchView
) -> tuple[list[ConfirmedTrial], bool]:
    """Plays what of the confirmation was not yet played. Returns the settings, the winner first, and whether all has
    come to an end."""
    experiment, folder = context.experiment, context.folder.below("confirm")
    if not seed_runs(experiment, outcomes, begun={}):
        return [], True
    folder.path.mkdir(exist_ok=True)
    with Journal(folder.journal, folder.segments()) as journal:
        begun = {name.rpartition("-")[0]: one.config["settings"] for name, one in journal.records.items()}
        repeats = seed_runs(experiment, outcomes, begun)
        names = [one.id for one in repeats]
        shared = {field.name: getattr(context, field.name) for field in fields(SearchContext)}
        view.confirm(len({one.trial.trial for one in repeats}), experiment.search.confirm_seeds)
        confirming = ConfirmContext(**{**shared, "folder": folder}, search=context.folder)
        watch = SearchMonitor(confirming, journal, SearchBudget(journal), view)
        concurrent = concurrent_trials(experiment, room)
        trials = Suggestions(journal, SeedRunSearcher(repeats), watch.budget, folder, names, concurrent)
        play_trials(watch, room, trials, FIFOScheduler())
        return gather_results(repeats, watch.settle(), folder), watch.whole(names)
