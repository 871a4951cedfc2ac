"""Plays the trials of a search."""

from __future__ import annotations

from infra.cluster import Cluster
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal
from pipelines.search._outcome import Outcome
from pipelines.search._parent_run import ParentRun
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials._engines import scheduler_of, searcher_of
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor
from pipelines.search.trials.suggestions import Suggestions
from pipelines.search.trials.tuner import play_trials
from pipelines.settings import concurrent_trials


def play_search(
    context: SearchContext, journal: Journal, view: SearchView, parent: ParentRun, cluster: Cluster
) -> tuple[list[Outcome], bool]:
    """Plays the trials that the journal does not know to have ended. Returns the state of each trial, and whether all
    have ended."""
    experiment, asked = context.experiment, context.experiment.search
    budget = SearchBudget(journal, asked.hours, asked.images)
    monitor = SearchMonitor(context, journal, budget, view, parent)
    # All trials of a population are alive at once. They take turns if the cluster is too small for all.
    concurrent = asked.trials if asked.scheduler == "pbt" else concurrent_trials(experiment, cluster)
    names = [f"t{number:04d}" for number in range(1, asked.trials + 1)]
    trials = Suggestions(journal, searcher_of(experiment), budget, context.folder, names, concurrent)
    play_trials(monitor, cluster, trials, scheduler_of(experiment, context.folder))
    outcomes = monitor.close_runs()
    return outcomes, monitor.all_ended(names)
