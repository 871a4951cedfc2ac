"""Plays a search on the cluster: its trials, then its best settings with fresh seeds."""

from __future__ import annotations

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from infra.cluster import Cluster, cluster
from pipelines.console import say
from pipelines.runs import RunFolder, as_full_disk_error
from pipelines.search._best import SearchResult
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal
from pipelines.search._outcome import Outcome
from pipelines.search._parent_run import ParentRun
from pipelines.search.confirmation.play import confirm
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor
from pipelines.search.trials.suggestions import Suggestions
from pipelines.search.trials.tuner import play_trials
from pipelines.settings import SearchExperiment, check_capacity, concurrent_trials, trial_resources
from tune_spaces.engines import IMAGES, TIME, scheduler, searcher


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
        check_capacity(experiment, joined)
        context = SearchContext(
            experiment,
            folder,
            reference,
            parent.uri,
            parent.experiment_id,
            parent.run_id,
            parent.tags,
            trial_resources(experiment, joined),
        )
        outcomes, all_ended = _play_trials(context, journal, view, parent, joined)
        if not all_ended:
            return SearchResult(outcomes, [], complete=False)
        journal.stop_clock()
        confirmed, complete = confirm(context, joined, outcomes, view)
        return SearchResult(outcomes, confirmed, complete)


def _play_trials(
    context: SearchContext, journal: Journal, view: SearchView, parent: ParentRun, joined: Cluster
) -> tuple[list[Outcome], bool]:
    """Plays the trials that the journal does not know to have ended. Returns the state of each trial, and whether all
    have ended."""
    experiment, asked = context.experiment, context.experiment.search
    sampler = searcher(
        asked.sampler,
        experiment.spaces(),
        experiment.seed,
        compare=asked.compare,
        points=experiment.points(),
        defaults=experiment.defaults(),
    )
    budget = SearchBudget(journal, asked.hours, asked.images)
    monitor = SearchMonitor(context, journal, budget, view, parent)
    # All trials of a population are alive at once. They take turns if the cluster is too small for all.
    concurrent = asked.trials if asked.scheduler == "pbt" else concurrent_trials(experiment, joined)
    most = int(min(asked.trials, sampler.most))
    if most < asked.trials:
        say(view.console, f"the space has {most} settings: {most} trials instead of search.trials={asked.trials}")
    names = [f"t{number:04d}" for number in range(1, asked.trials + 1)]
    names = [name for number, name in enumerate(names) if number < most or name in journal.records]
    view.total = len(names)
    trials = Suggestions(journal, sampler, budget, context.folder, names, concurrent)
    uninterrupted = play_trials(monitor, joined, trials, _scheduler_of(experiment, context.folder))
    outcomes = monitor.close_runs()
    return outcomes, uninterrupted and monitor.all_ended(names)


def _scheduler_of(experiment: SearchExperiment, folder: RunFolder) -> TrialScheduler:
    """The scheduler that the settings name. `folder`: the search's, which has the rows of earlier trials."""

    def history(trial: str) -> list[dict[str, float]]:
        earlier = folder.trial(trial)
        earlier.refresh()
        return earlier.rows()

    # With a budget in images, trials of different `n_critic` are compared at the same number of images.
    unit, time = (experiment.data.batch_size, IMAGES) if experiment.budget.rounds is None else (1, TIME)
    return scheduler(
        experiment.search.scheduler,
        experiment.budget.last_round(experiment.data.batch_size) * unit,
        experiment.budget.eval_every * unit,
        spaces=experiment.spaces(),
        seed=experiment.seed,
        compare=experiment.search.compare,
        time=time,
        history=history,
    )
