"""Plays the confirmation: the best settings of a search, with fresh seeds, each to the end of the full budget.

The best value of many trials is partly luck (the winner's curse). Runs with other seeds are not selected by their
result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from infra.cluster import Cluster, free_capacity
from pipelines.runs import RunFolder, Watch
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal
from pipelines.search._outcome import Outcome
from pipelines.search._parent_run import ParentRun
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
    """What all confirmation runs share. `folder` is `NAME/confirm`. In MLflow they are children of the search's run."""

    search: RunFolder

    def target(self, trial_id: str) -> TrackingTarget:
        """The run of one trial's settings with one seed in MLflow."""
        trial, _, seed = trial_id.rpartition("-")
        own = {"ganfleet.trial": trial, "ganfleet.seed": seed}
        return self.child("confirm", self.search, f"confirm/{trial_id}", own)

    @property
    def exploits(self) -> bool:
        """Never: a confirmation run keeps its settings."""
        return False


class SeedRunSearcher(Searcher):
    """Gives each confirmation run its settings and seed, by its name."""

    def __init__(self, runs: Sequence[SeedRun]) -> None:
        super().__init__()
        self._configs = {one.id: {"settings": one.trial.settings, "seed": one.seed} for one in runs}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """`{"settings": {"name": family, field: value}, "seed": seed}`."""
        return self._configs.get(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn from a result."""


def confirm(
    context: SearchContext,
    cluster: Cluster | None,
    outcomes: Sequence[Outcome],
    view: SearchView,
    parent: ParentRun,
    watch: Watch | None = None,
) -> tuple[list[ConfirmedTrial], bool]:
    """Plays the confirmation runs that have not ended; none without a cluster. Returns the confirmed settings, the
    winner first, and whether all runs have ended."""
    experiment, folder = context.experiment, context.folder.below("confirm")
    if not seed_runs(experiment, outcomes, begun={}):
        return [], True
    folder.path.mkdir(exist_ok=True)
    with Journal(folder.journal, folder.segments(), experiment.objective) as journal:
        begun = {name.rpartition("-")[0]: one.config["settings"] for name, one in journal.records.items()}
        runs = seed_runs(experiment, outcomes, begun)
        names = [one.id for one in runs]
        view.confirm([one.waiting for one in runs], experiment.search.confirm_seeds)
        confirm_context = ConfirmContext(**{**vars(context), "folder": folder}, search=context.folder)
        budget = SearchBudget(journal)
        monitor = SearchMonitor(confirm_context, journal, budget, view, parent, curve=False, watch=watch)
        uninterrupted = True
        if cluster is not None:
            concurrent = concurrent_trials(experiment, cluster)
            trials = Suggestions(
                journal, SeedRunSearcher(runs), budget, folder, names, concurrent, experiment.objective
            )
            view.wait_for(f"{min(concurrent, len(names))} processes that play the runs ({free_capacity()})")
            uninterrupted = play_trials(monitor, cluster, trials, FIFOScheduler())
        view.wait_for("MLflow to have all of the runs")
        outcomes = monitor.close_runs()
        return gather_results(runs, outcomes, folder, experiment.objective), uninterrupted and monitor.all_ended(names)
