"""The sampler and the scheduler of a search, from its settings."""

from __future__ import annotations

from ray.tune.schedulers import TrialScheduler

from pipelines.runs import RunFolder
from pipelines.search.trials.monitor import longest
from pipelines.settings import SearchExperiment
from tune_spaces.engines import IMAGES, TIME, scheduler, searcher
from tune_spaces.searcher import FamilySearcher


def searcher_of(experiment: SearchExperiment) -> FamilySearcher:
    """The searcher with the sampler that the settings name."""
    return searcher(
        experiment.search.sampler,
        experiment.spaces(),
        experiment.seed,
        compare=experiment.search.compare,
        points=experiment.points(),
        defaults=experiment.defaults(),
    )


def scheduler_of(experiment: SearchExperiment, folder: RunFolder) -> TrialScheduler:
    """The scheduler that the settings name. `folder`: the search's, which has the rows of earlier trials."""
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
