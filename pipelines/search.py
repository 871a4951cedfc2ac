"""`ganfleet search`: Ray Tune over one family or several, FID the objective."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher
from rich.console import Console

from infra.cluster import Cluster, cluster
from infra.mlflow_tracker import close_run, open_run, version_tags
from pipelines.budget import Spending
from pipelines.journal import Journal
from pipelines.outcome import Outcome, best_of
from pipelines.reference import obtain_reference, say_reference
from pipelines.report import say_outcomes, write_outcomes
from pipelines.room import check_room, concurrent_trials, uses_gpu
from pipelines.runs import RunFolder
from pipelines.screen import SearchView
from pipelines.search_watch import Relay, SpentBudget, Watch, interrupted, longest
from pipelines.settings import SearchExperiment
from pipelines.suggestions import Suggestions, remind
from pipelines.tracking import STATUS, State, prepare_tracking
from pipelines.train import InterruptedRunError
from pipelines.trial import SearchContext, Trial
from pipelines.worker import flat
from tune_spaces.domains import space
from tune_spaces.engines import scheduler, searcher

LOST_WORKERS = 2
"""How often a trial goes on from its checkpoint after its process died, or after an error that may pass."""


class FailedSearchError(RuntimeError):
    """Every trial failed."""


def search(experiment: SearchExperiment, folder: RunFolder, console: Console) -> None:
    """Runs the search, or goes on with it, to its last trial; then prints the table and the best settings.

    Raises InterruptedRunError on Ctrl-C; SettingsError if the cluster is too small, or if the search is running.
    """
    with Journal(folder.path / "journal.jsonl") as journal:
        yardstick = obtain_reference(experiment.metrics, experiment.data, experiment.storage.path, console)
        say_reference(console, yardstick)
        tracking, tags = prepare_tracking(experiment), {**version_tags(), **yardstick.tags}
        parent = open_run(
            experiment.tracking_uri,
            tracking,
            {"ganfleet.id": folder.id},
            folder.path.name,
            None,
            flat(experiment.model_dump(mode="json", include={"seed", "data", "budget", "search", "compute"})),
            {"ganfleet.kind": "search", **tags},
        )
        where = (experiment.tracking_uri, tracking, parent)
        context = SearchContext(experiment, folder, yardstick.content, *where, tags, use_gpu=False)
        try:
            outcomes, whole = _played(context, journal, console)
        except BaseException as error:
            state: State = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            close_run(experiment.tracking_uri, parent, STATUS[state], {"ganfleet.state": state}, {})
            raise
        files = write_outcomes(folder, experiment, outcomes)
        failed = whole and best_of(outcomes) is None
        _close_parent(context, files, outcomes, "interrupted" if not whole else "failed" if failed else "completed")
    if not whole:
        raise InterruptedRunError
    say_outcomes(console, folder, outcomes, experiment.storage)
    if failed:
        raise FailedSearchError("no trial came to an end with a FID")


def _played(context: SearchContext, journal: Journal, console: Console) -> tuple[list[Outcome], bool]:
    """How all trials stand once none goes on, and whether the search is at its end."""
    experiment, budget = context.experiment, context.experiment.search
    with SearchView(console, budget.trials) as view, cluster() as room:
        check_room(experiment, room)
        context = replace(context, use_gpu=uses_gpu(experiment, room))
        watch = Watch(context, journal, Spending(journal, budget.hours, budget.images), view)
        spaces = {family.name: space(type(family), fixed=experiment.fixed) for family in experiment.families}
        play_trials(watch, room, searcher(budget.sampler, spaces, experiment.seed), budget.trials)
        outcomes = watch.settle()
        return outcomes, not interrupted(outcomes, watch, budget.trials)


def _close_parent(context: SearchContext, files: list[Path], outcomes: list[Outcome], state: State) -> None:
    best = best_of(outcomes)
    tags: dict[str, str] = {"ganfleet.state": state}
    if best is not None:
        tags |= {"ganfleet.best.trial": best.trial, "ganfleet.best.fid": f"{best.fid:.4f}"}
    artifacts = {path.name: path for path in [context.folder.experiment, *files]}
    close_run(context.tracking_uri, context.parent, STATUS[state], tags, artifacts)


def play_trials(watch: Watch, room: Cluster, searcher: Searcher, wanted: int) -> None:
    """Plays what the watch's journal says is unfinished, then trials that `searcher` draws, up to `wanted` of all."""
    context, journal = watch.context, watch.journal
    trainable, concurrent = _sized(context, room)
    name: str = context.experiment.search.scheduler
    # A population lives at once, in turns if there is no room for all.
    concurrent = wanted if name == "pbt" else concurrent
    trials = Suggestions(journal, searcher, watch.spending, context.folder, wanted, concurrent, early=name)
    if not trials.is_finished():
        Relay.watch = watch
        tuner(context, trainable, trials, journal).fit()


def tuner(context: SearchContext, trainable: Any, trials: Suggestions, journal: Journal) -> tune.Tuner:
    """A new tuner. What it keeps on disk is of use to this process alone."""
    experiment, state = context.experiment, context.folder.path / "tune"
    shutil.rmtree(state, ignore_errors=True)
    rungs = scheduler(experiment.search.scheduler, longest(experiment), experiment.budget.eval_every)
    remind(rungs, journal.past)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=trials,
            scheduler=rungs,
            num_samples=experiment.search.trials,
            reuse_actors=experiment.compute.workers == 1,
            trial_dirname_creator=_trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"{time.time_ns()}",
            storage_path=str(state),
            callbacks=[Relay()],
            stop=SpentBudget(),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _sized(context: SearchContext, room: Cluster) -> tuple[Any, int]:
    """The trainable with its resources, and how many trials run at once.

    The actor of a trial with several workers holds no CPU of theirs, or both would wait for ever.
    """
    concurrent = concurrent_trials(context.experiment, room)
    if context.experiment.compute.workers > 1:
        resources: dict[str, float] = {"node:__internal_head__": round(0.99 / concurrent, 4)}
    else:
        resources = {"CPU": max(1, room.cpus // concurrent) if room.local else 1}
        if context.use_gpu:
            resources["GPU"] = 1
    return tune.with_resources(tune.with_parameters(Trial, context=context), resources), concurrent


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)
