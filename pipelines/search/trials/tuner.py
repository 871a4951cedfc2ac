"""Plays a list of trials on Ray Tune: those of a search, or its confirmation runs."""

from __future__ import annotations

import shutil
import signal
import time
from typing import Any

from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import TrialScheduler

from infra.cluster import Cluster, keep_signal_handler
from pipelines import interrupts
from pipelines.code import sealed
from pipelines.search.trials._trainable import Trial
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor, SpentBudget, TuneCallbacks
from pipelines.search.trials.suggestions import Suggestions, remind
from pipelines.settings import concurrent_trials

LOST_WORKERS = 2
"""How often a trial resumes from its checkpoint after its process died, or after an error that may be temporary."""


def play_trials(monitor: SearchMonitor, cluster: Cluster, trials: Suggestions, scheduler: TrialScheduler) -> bool:
    """Plays trials until all have ended, the budget is spent, or Ctrl-C. The journal has the results. Returns False
    after Ctrl-C.

    Raises StoreError or OSError if the journal can no longer be written.
    """
    interrupts.check()
    if trials.is_finished():
        return True
    TuneCallbacks.monitor = monitor
    remind(scheduler, monitor.journal.records.values())
    try:
        with keep_signal_handler(signal.SIGINT):  # Tune's stays, and only logs a later Ctrl-C
            _tuner(monitor.context, cluster, trials, scheduler).fit()
            return signal.getsignal(signal.SIGINT) is TuneCallbacks.sigint_handler
    except TuneError:
        monitor.journal.check()
        raise


def _tuner(context: SearchContext, cluster: Cluster, trials: Suggestions, scheduler: TrialScheduler) -> tune.Tuner:
    """A new tuner. Its files are for this process only, so those of an earlier one are deleted."""
    shutil.rmtree(context.folder.path / "tune", ignore_errors=True)
    return tune.Tuner(
        _with_resources(context, cluster),
        tune_config=tune.TuneConfig(
            search_alg=trials,
            scheduler=scheduler,
            num_samples=trials.total_samples,
            reuse_actors=context.experiment.compute.workers == 1,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=f"{time.time_ns()}",
            **context.folder.ray_storage("tune", context.resources.nodes),
            callbacks=[TuneCallbacks()],
            stop=SpentBudget(),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _with_resources(context: SearchContext, cluster: Cluster) -> Any:
    """The trainable with the resources of its actor.

    The actor of a trial with several workers takes no CPU: if actors held all CPUs, their workers would wait for ever.
    """
    if context.experiment.compute.workers > 1:
        concurrent = concurrent_trials(context.experiment, cluster)
        resources: dict[str, float] = {"node:__internal_head__": round(0.99 / concurrent, 4)}
    else:
        resources = {"CPU": context.resources.cpus_per_worker, "GPU": context.resources.gpus}
    return tune.with_resources(tune.with_parameters(Trial, context=sealed(context, context.code)), resources)
