"""`ganfleet search`: Ray Tune over one family or several, FID the objective."""

from __future__ import annotations

from pathlib import Path

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from infra.cluster import Cluster, cluster
from infra.mlflow.tracker import close_run, opened_run, version_tags
from infra.stores.protocol import StoreError
from pipelines.data.fetch import at_hand
from pipelines.errors import InterruptedRunError
from pipelines.evaluate.reference import prepare_reference, print_reference
from pipelines.runs import RunFolder, TakenOverError, full_disk_told, shared_cache
from pipelines.search._best import SearchResult
from pipelines.search._budget import SearchBudget
from pipelines.search._curve import Curve
from pipelines.search._journal import Journal
from pipelines.search._parent_run import register_winner, track_winner
from pipelines.search.confirmation.play import confirm
from pipelines.search.plots.draw import try_to_draw
from pipelines.search.report.families import print_families, write_families
from pipelines.search.report.live_table import SearchView
from pipelines.search.report.tables import print_result, write_result
from pipelines.search.trials.context import SearchContext
from pipelines.search.trials.monitor import SearchMonitor, longest
from pipelines.search.trials.suggestions import Suggestions
from pipelines.search.trials.tuner import play_trials
from pipelines.settings import SearchExperiment, check_capacity, concurrent_trials, trial_resources
from pipelines.tracking.retry import TrackingRetry, UntrackedNote, print_caught_up, print_untracked
from pipelines.tracking.runs import STATUS, State, check_tracking_server, prepare_tracking
from pipelines.tracking.target import flat
from tune_spaces.engines import IMAGES, TIME, scheduler, searcher


class FailedSearchError(RuntimeError):
    """Every trial failed."""


def search(experiment: SearchExperiment, folder: RunFolder, console: Console) -> None:
    """Runs the search, or goes on with it, to its last trial, and confirms its best settings; then prints the tables
    and the best settings.

    Raises InterruptedRunError on Ctrl-C; SettingsError if the cluster is too small, or if the search is running.
    """
    check_tracking_server(experiment)
    with Journal(folder.journal, folder.segments()) as journal:
        lacked = _owed(folder)
        source = at_hand(experiment.data, experiment.storage, console)
        shared_reference = prepare_reference(
            experiment.metrics, source, experiment.storage.folder, console, shared_cache(experiment.storage)
        )
        print_reference(console, shared_reference)
        tracking, tags = prepare_tracking(experiment), {**version_tags(), **shared_reference.tags}
        parent = _open_parent(experiment, folder, tracking, tags)
        where = (experiment.tracking_uri, tracking, parent)
        try:
            with full_disk_told(experiment.storage), SearchView(console, experiment) as view, cluster() as room:
                check_capacity(experiment, room)
                shares = trial_resources(experiment, room)
                context = SearchContext(experiment, folder, shared_reference.content, *where, tags, shares)
                found, whole = _played(context, journal, view, room)
            _close_parent(context, found, whole, _written(context, found, console))
        except TakenOverError:
            raise
        except BaseException as error:
            state: State = "interrupted" if isinstance(error, KeyboardInterrupt | StoreError) else "failed"
            TrackingRetry().attempt(
                lambda: close_run(experiment.tracking_uri, parent, STATUS[state], {"ganfleet.state": state}, {})
            )
            raise
        if not whole:
            raise InterruptedRunError
        print_result(console, folder, found, experiment)
        if experiment.search.compare:
            print_families(console, found.outcomes, found.confirmed)
        if _owed(folder):
            print_untracked(console, experiment, "search", folder.path.name)
        else:
            register_winner(context, found, console)
            if lacked:
                print_caught_up(console, experiment, folder.path.name)
    if found.best is None:
        raise FailedSearchError("no trial came to an end with a FID")


def _played(context: SearchContext, journal: Journal, view: SearchView, room: Cluster) -> tuple[SearchResult, bool]:
    """What there is once nothing is played any more, and whether the search is at its end."""
    experiment, budget = context.experiment, context.experiment.search
    curve = Curve(context.tracking_uri, context.parent, context.folder)
    watch = SearchMonitor(context, journal, SearchBudget(journal, budget.hours, budget.images), view, curve)
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
    names = [f"t{number:04d}" for number in range(1, budget.trials + 1)]
    trials = Suggestions(journal, drawing, watch.budget, context.folder, names, at_once)
    play_trials(watch, room, trials, _scheduler(experiment, context.folder))
    outcomes = watch.settle()
    if not watch.whole(names):
        return SearchResult(outcomes, []), False
    journal.stop_clock()
    confirmed, whole = confirm(context, room, outcomes, view)
    return SearchResult(outcomes, confirmed), whole


def _written(context: SearchContext, found: SearchResult, console: Console) -> list[Path]:
    """Writes all tables and pictures. Returns the files."""
    experiment, folder = context.experiment, context.folder
    files = write_result(folder, experiment, found)
    if experiment.search.compare:
        files += write_families(folder, found.outcomes, found.confirmed)
    files += try_to_draw(console, folder, experiment, found.outcomes, found.confirmed)
    folder.put(*files)
    return files


def _open_parent(experiment: SearchExperiment, folder: RunFolder, tracking: str, tags: dict[str, str]) -> str:
    shared = experiment.model_dump(mode="json", include={"seed", "data", "budget", "search", "compute"})
    name, identity = folder.path.name, {"ganfleet.id": folder.id}
    own = {"ganfleet.kind": "search", **tags}
    run = opened_run(experiment.tracking_uri, tracking, identity, name, None, flat(shared), own)
    return str(run.info.run_id)


def _close_parent(context: SearchContext, found: SearchResult, whole: bool, files: list[Path]) -> None:
    state: State = "interrupted" if not whole else "completed" if found.best else "failed"
    tags: dict[str, str] = {"ganfleet.state": state}
    known = found.best is not None and context.folder.best in files
    if found.best is not None and known:
        tags |= found.best.tags
    artifacts = {str(path.relative_to(context.folder.path)): path for path in [context.folder.experiment, *files]}

    def end() -> None:
        if known:
            track_winner(context, found)
        close_run(context.tracking_uri, context.parent, STATUS[state], tags, artifacts)

    retry = TrackingRetry()
    if not _owed(context.folder):  # else there was a minute for it already
        retry.start_final_minute()
    if not retry.attempt(end):
        UntrackedNote(context.folder).write(retry.error)


def _owed(folder: RunFolder) -> bool:
    """Whether MLflow lacks some of the search, or of its confirmation."""
    return bool(UntrackedNote(folder)) or bool(UntrackedNote(folder.below("confirm")))


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
    trial.bring()
    return trial.rows()


def _unit(experiment: SearchExperiment) -> tuple[int, str]:
    """How many of which a generator update counts: trials of as many images but other numbers of critic steps are
    compared at the same images."""
    return (experiment.data.batch_size, IMAGES) if experiment.budget.rounds is None else (1, TIME)
