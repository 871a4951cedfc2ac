"""Plays the trials of a search: its sampler, its scheduler, how many run at once."""

from __future__ import annotations

from ray.tune.schedulers import TrialScheduler

from infra.cluster import Cluster
from pipelines.runs import RunFolder
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal
from pipelines.search._outcome import Outcome
from pipelines.search._parent_run import ParentRun
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor, longest
from pipelines.search.trials.suggestions import Suggestions
from pipelines.search.trials.tuner import play_trials
from pipelines.settings import SearchExperiment, concurrent_trials
from tune_spaces.engines import IMAGES, TIME, scheduler, searcher
from tune_spaces.searcher import FamilySearcher


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
    trials = Suggestions(journal, _searcher(experiment), budget, context.folder, names, concurrent)
    play_trials(monitor, cluster, trials, _scheduler(experiment, context.folder))
    outcomes = monitor.close_runs()
    return outcomes, monitor.all_ended(names)


def _searcher(experiment: SearchExperiment) -> FamilySearcher:
    return searcher(
        experiment.search.sampler,
        experiment.spaces(),
        experiment.seed,
        compare=experiment.search.compare,
        points=experiment.points(),
        defaults=experiment.defaults(),
    )


def _scheduler(experiment: SearchExperiment, folder: RunFolder) -> TrialScheduler:
    unit, time = _unit(experiment)
    return scheduler(
        experiment.search.scheduler,
        longest(experiment) * unit,
        experiment.budget.eval_every * unit,
        spaces=experiment.spaces(),
        seed=experiment.seed,
        compare=experiment.search.compare,
        time=time,
        history=lambda trial: _rows(folder.trial(trial)),
    )


def _rows(trial: RunFolder) -> list[dict[str, float]]:
    trial.refresh()
    return trial.rows()


def _unit(experiment: SearchExperiment) -> tuple[int, str]:
    """How much of the scheduler's time one generator update takes, and the metric that measures it.

    With a budget in images, trials of different `n_critic` are compared at the same number of images.
    """
    return (experiment.data.batch_size, IMAGES) if experiment.budget.rounds is None else (1, TIME)
