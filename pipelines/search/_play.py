"""Plays a search on the cluster: its trials, then its best settings with fresh seeds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from infra.cluster import Cluster, cluster, free_capacity
from pipelines.console import say
from pipelines.runs import RunFolder, Watch, as_full_disk_error
from pipelines.search._best import SearchResult
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal
from pipelines.search._parent_run import ParentRun
from pipelines.search.confirmation.play import confirm
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor
from pipelines.search.trials.suggestions import Suggestions
from pipelines.search.trials.tuner import play_trials
from pipelines.settings import SearchExperiment, WorkerResources, check_capacity, concurrent_trials, trial_resources
from pipelines.train.shipped_code import shipped_code
from tune_spaces.engines import IMAGES, TIME, scheduler, searcher
from tune_spaces.searcher import FamilySearcher


def play_and_confirm(
    experiment: SearchExperiment,
    folder: RunFolder,
    journal: Journal,
    parent: ParentRun,
    reference: bytes,
    console: Console,
    watch: Watch | None = None,
) -> SearchResult:
    """Plays the trials that are left, and once all have ended, confirms the best settings.

    The result is incomplete after Ctrl-C. Raises SettingsError if the cluster is too small.
    """
    with as_full_disk_error(experiment.storage), SearchView(console, experiment) as view:
        view.wait_for("Ray to start")
        with cluster() as joined:
            check_capacity(experiment, joined)
            context = _context(experiment, folder, parent, reference, trial_resources(experiment, joined))
            context = replace(context, code=shipped_code(experiment, folder, joined))
            result = _play_and_close(context, journal, view, parent, joined, watch)
            view.wait_for("Ray to end")
        return result


def close_all(experiment: SearchExperiment, folder: RunFolder, journal: Journal, parent: ParentRun) -> SearchResult:
    """Ends the runs in MLflow that earlier drivers left open. Plays nothing."""
    for record in journal.records.values():
        if not record.ended and folder.trial(record.trial).path.is_dir():
            with folder.trial(record.trial).sole_writer():
                pass  # a worker may live a moment longer than its driver
    context = _context(experiment, folder, parent, b"", WorkerResources(0, 0))
    return _play_and_close(context, journal, SearchView(Console(quiet=True), experiment), parent, None)


def _context(
    experiment: SearchExperiment, folder: RunFolder, parent: ParentRun, reference: bytes, resources: WorkerResources
) -> SearchContext:
    return SearchContext(
        experiment, folder, reference, parent.uri, parent.experiment_id, parent.run_id, parent.tags, resources
    )


def _play_and_close(
    context: SearchContext,
    journal: Journal,
    view: SearchView,
    parent: ParentRun,
    joined: Cluster | None,
    watch: Watch | None = None,
) -> SearchResult:
    """Plays on a cluster, if there is one, and ends the runs in MLflow."""
    experiment, asked = context.experiment, context.experiment.search
    budget = SearchBudget(journal, asked.hours, asked.images)
    monitor = SearchMonitor(context, journal, budget, view, parent, watch=watch)
    sampler = sampler_of(experiment)
    names = trial_names(experiment, sampler, journal.records)
    uninterrupted = True
    if joined is not None:
        if sampler.most < asked.trials:
            most = int(sampler.most)
            say(view.console, f"the space has {most} settings: {most} trials instead of search.trials={asked.trials}")
        view.total = len(names)
        # All trials of a population are alive at once. They take turns if the cluster is too small for all.
        concurrent = asked.trials if asked.scheduler == "pbt" else concurrent_trials(experiment, joined)
        trials = Suggestions(journal, sampler, monitor.budget, context.folder, names, concurrent, experiment.objective)
        view.wait_for(f"{min(concurrent, len(names))} processes that play trials ({free_capacity()})")
        uninterrupted = play_trials(monitor, joined, trials, _scheduler_of(experiment, context.folder))
    view.wait_for("MLflow to have all of the trials")
    outcomes = monitor.close_runs()
    if not (uninterrupted and monitor.all_ended(names)):
        return SearchResult(experiment.objective, outcomes, [], complete=False)
    journal.stop_clock()
    confirmed, complete = confirm(context, joined, outcomes, view, parent, watch)
    return SearchResult(experiment.objective, outcomes, confirmed, complete)


def sampler_of(experiment: SearchExperiment) -> FamilySearcher:
    """A new sampler, which has drawn nothing."""
    asked = experiment.search
    return searcher(
        asked.sampler,
        experiment.spaces(),
        experiment.seed,
        compare=asked.compare,
        points=experiment.points(),
        defaults=experiment.defaults(),
        objective=experiment.objective,
    )


def trial_names(experiment: SearchExperiment, sampler: FamilySearcher, begun: Collection[str]) -> list[str]:
    """The names of a search's trials; `begun`: those of trials that have begun. A space of few settings has fewer
    trials than the search asks for."""
    names = [f"t{number:04d}" for number in range(1, experiment.search.trials + 1)]
    return [name for number, name in enumerate(names) if number < sampler.most or name in begun]


def _scheduler_of(experiment: SearchExperiment, folder: RunFolder) -> TrialScheduler:
    """The scheduler that the settings name. `folder`: the search's, which has the rows of earlier trials."""

    def history(trial: str) -> list[dict[str, float]]:
        earlier = folder.trial(trial)
        earlier.refresh()
        return earlier.rows()

    # With a budget in images, trials of different `n_critic` or batch are compared at the same number of images.
    batch, _ = experiment.batches
    unit, time = (batch, IMAGES) if experiment.budget.rounds is None else (1, TIME)
    return scheduler(
        experiment.search.scheduler,
        experiment.budget.last_round(batch) * unit,
        experiment.budget.eval_every * unit,
        spaces=experiment.spaces(),
        seed=experiment.seed,
        compare=experiment.search.compare,
        time=time,
        history=history,
        objective=experiment.objective,
    )
