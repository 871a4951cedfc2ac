"""`ganfleet search`: Ray Tune over one family or several, FID the objective."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from infra.cluster import Cluster, cluster
from infra.mlflow_tracker import close_run, open_run, version_tags
from pipelines.budget import Spending
from pipelines.families import say_families, write_families
from pipelines.journal import Journal
from pipelines.learned import try_to_draw
from pipelines.outcome import Outcome, best_of
from pipelines.reference import obtain_reference, say_reference
from pipelines.report import say_outcomes, write_outcomes
from pipelines.room import check_room, concurrent_trials, trial_shares
from pipelines.runs import RunFolder
from pipelines.search_screen import SearchView
from pipelines.search_watch import Relay, SpentBudget, Watch, interrupted, longest
from pipelines.settings import SearchExperiment
from pipelines.suggestions import Suggestions, remind
from pipelines.tracking import STATUS, State, prepare_tracking
from pipelines.train import InterruptedRunError
from pipelines.trial import SearchContext, Trial
from pipelines.worker import flat
from tune_spaces.engines import IMAGES, TIME, scheduler, searcher

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
        try:
            with SearchView(console, experiment) as view, cluster() as room:
                check_room(experiment, room)
                shares = trial_shares(experiment, room)
                context = SearchContext(experiment, folder, yardstick.content, *where, tags, shares)
                outcomes, whole = _played(context, journal, view, room)
        except BaseException as error:
            state: State = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            close_run(experiment.tracking_uri, parent, STATUS[state], {"ganfleet.state": state}, {})
            raise
        files = [*write_outcomes(folder, experiment, outcomes), *try_to_draw(console, folder, experiment, outcomes)]
        if experiment.search.compare:
            files += write_families(folder, outcomes, confirmed=[])
        failed = whole and best_of(outcomes) is None
        _close_parent(context, files, outcomes, "interrupted" if not whole else "failed" if failed else "completed")
    if not whole:
        raise InterruptedRunError
    say_outcomes(console, folder, outcomes, experiment.storage)
    if experiment.search.compare:
        say_families(console, outcomes, confirmed=[])
    if failed:
        raise FailedSearchError("no trial came to an end with a FID")


def _played(context: SearchContext, journal: Journal, view: SearchView, room: Cluster) -> tuple[list[Outcome], bool]:
    """How all trials stand once none goes on, and whether the search is at its end."""
    experiment, budget = context.experiment, context.experiment.search
    watch = Watch(context, journal, Spending(journal, budget.hours, budget.images), view)
    drawing = searcher(
        budget.sampler,
        experiment.spaces(),
        experiment.seed,
        compare=budget.compare,
        points=experiment.points(),
        defaults=experiment.defaults(),
    )
    # A population lives at once, in turns if there is no room for all.
    at_once = budget.trials if budget.scheduler == "pbt" else concurrent_trials(experiment, room)
    trials = Suggestions(watch.journal, drawing, watch.spending, context.folder, budget.trials, at_once)
    play_trials(watch, room, trials, _scheduler(experiment, context.folder))
    outcomes = watch.settle()
    return outcomes, not interrupted(outcomes, watch, budget.trials)


def _close_parent(context: SearchContext, files: list[Path], outcomes: list[Outcome], state: State) -> None:
    best = best_of(outcomes)
    tags: dict[str, str] = {"ganfleet.state": state}
    if best is not None:
        tags |= {"ganfleet.best.trial": best.trial, "ganfleet.best.fid": f"{best.fid:.4f}"}
    artifacts = {str(path.relative_to(context.folder.path)): path for path in [context.folder.experiment, *files]}
    close_run(context.tracking_uri, context.parent, STATUS[state], tags, artifacts)


def play_trials(watch: Watch, room: Cluster, trials: Suggestions, rungs: TrialScheduler) -> None:
    """Plays trials until there are no more, Ctrl-C, or the end of the budget. The journal says how they went."""
    if trials.is_finished():
        return
    Relay.watch = watch
    remind(rungs, watch.journal.records.values())
    tuner(watch.context, room, trials, rungs).fit()


def tuner(context: SearchContext, room: Cluster, trials: Suggestions, rungs: TrialScheduler) -> tune.Tuner:
    """A new tuner. What it keeps on disk is of use to this process alone."""
    state = context.folder.path / "tune"
    shutil.rmtree(state, ignore_errors=True)
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
            storage_path=str(state),
            callbacks=[Relay()],
            stop=SpentBudget(),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _scheduler(experiment: SearchExperiment, folder: RunFolder) -> TrialScheduler:
    """Trials of as many images but other numbers of critic steps are compared at the same images."""
    by_images = experiment.budget.rounds is None
    unit, time = (experiment.data.batch_size, IMAGES) if by_images else (1, TIME)
    return scheduler(
        experiment.search.scheduler,
        longest(experiment) * unit,
        experiment.budget.eval_every * unit,
        sampler=experiment.search.sampler,
        spaces=experiment.spaces(),
        seed=experiment.seed,
        time=time,
        history=lambda trial: folder.trial(trial).rows(),
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
