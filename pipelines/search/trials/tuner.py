"""Plays a list of trials on Ray Tune: those of a search, or those that confirm it."""

from __future__ import annotations

import shutil
import signal
import time
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import TrialScheduler

from infra.cluster import Cluster, handler_kept
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor, SpentBudget, TuneCallbacks
from pipelines.search.trials.suggestions import Suggestions, remind
from pipelines.search.trials.trainable import Trial
from pipelines.settings import concurrent_trials

LOST_WORKERS = 2
"""How often a trial goes on from its checkpoint after its process died, or after an error that may pass."""


def play_trials(watch: SearchMonitor, room: Cluster, trials: Suggestions, rungs: TrialScheduler) -> None:
    """Plays trials until there are no more, Ctrl-C, or the end of the budget. The journal says how they went.

    Raises StoreError or OSError if it can no longer be kept.
    """
    if trials.is_finished():
        return
    TuneCallbacks.watch = watch
    remind(rungs, watch.journal.records.values())
    try:
        with handler_kept(signal.SIGINT):  # to Tune's own, Ctrl-C after the last trial would be a line in the log
            _tuner(watch.context, room, trials, rungs).fit()
    except TuneError:
        watch.journal.check()
        raise


def _tuner(context: SearchContext, room: Cluster, trials: Suggestions, rungs: TrialScheduler) -> tune.Tuner:
    """A new tuner. What it keeps on disk is of use to this process alone."""
    shutil.rmtree(context.folder.path / "tune", ignore_errors=True)
    return tune.Tuner(
        _sized(context, room),
        tune_config=tune.TuneConfig(
            search_alg=trials,
            scheduler=rungs,
            num_samples=trials.total_samples,
            reuse_actors=context.experiment.compute.workers == 1,
            trial_dirname_creator=_trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{time.time_ns()}",
            **context.folder.of_ray("tune", context.shares.nodes),
            callbacks=[TuneCallbacks()],
            stop=SpentBudget(),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _sized(context: SearchContext, room: Cluster) -> Any:
    """The trainable with its resources.

    The actor of a trial with several workers holds no CPU of theirs, or both would wait for ever.
    """
    if context.experiment.compute.workers > 1:
        concurrent = concurrent_trials(context.experiment, room)
        resources: dict[str, float] = {"node:__internal_head__": round(0.99 / concurrent, 4)}
    else:
        resources = {"CPU": context.shares.cpus_per_worker, "GPU": context.shares.gpus}
    return tune.with_resources(tune.with_parameters(Trial, context=context), resources)


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)
