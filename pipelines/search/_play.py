"""Plays a search on the cluster: its trials, then its best settings with fresh seeds."""

from __future__ import annotations

from rich.console import Console

from infra.cluster import cluster
from pipelines.runs import RunFolder, as_full_disk_error
from pipelines.search._best import SearchResult
from pipelines.search._journal import Journal
from pipelines.search._parent_run import ParentRun
from pipelines.search.confirmation.play import confirm
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials.context import search_context
from pipelines.search.trials.play import play_search
from pipelines.settings import SearchExperiment


def play_and_confirm(
    experiment: SearchExperiment,
    folder: RunFolder,
    journal: Journal,
    parent: ParentRun,
    reference: bytes,
    console: Console,
) -> SearchResult:
    """Plays the trials that are left, and once all have ended, confirms the best settings.

    The result is incomplete after Ctrl-C. Raises SettingsError if the cluster is too small.
    """
    with as_full_disk_error(experiment.storage), SearchView(console, experiment) as view, cluster() as joined:
        context = search_context(experiment, folder, reference, parent, joined)
        outcomes, all_ended = play_search(context, journal, view, parent, joined)
        if not all_ended:
            return SearchResult(outcomes, [], complete=False)
        journal.stop_clock()
        confirmed, complete = confirm(context, joined, outcomes, view)
        return SearchResult(outcomes, confirmed, complete)
