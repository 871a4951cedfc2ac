"""`ganfleet train`: one experiment on a group of Ray Train workers, which may have only one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from rich.console import Console

from gan_core.settings import SettingsError
from infra.cluster import ClusterError, cluster
from infra.stores.protocol import StoreError
from pipelines import interrupts
from pipelines.console import say, working
from pipelines.evaluate.real_data import real_data
from pipelines.evaluate.reference import reference_of
from pipelines.interrupts import InterruptedRunError
from pipelines.runs import RunFolder, TakenOverError, Watch, as_full_disk_error, keep_measure
from pipelines.settings import TrainExperiment, check_capacity, worker_resources
from pipelines.tracking.pages import measured
from pipelines.tracking.retry import TrackingRetry, UntrackedNote, print_undelivered
from pipelines.tracking.runs import State, check_tracking_server
from pipelines.tracking.target import TrackingTarget
from pipelines.train._initial_weights import write_initial_checkpoint
from pipelines.train._view import TrainView
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.record import begin_record, deliver_record, end_record, finished, page_of
from pipelines.train.rollback import play_with_rollbacks
from pipelines.train.shipped_code import shipped_code

PlayFunction = Callable[
    [TrainExperiment, RunFolder, bytes, TrackingTarget, Callable[[str], None]], Generator[LoggedStep, None, None]
]
"""Plays an experiment in its run folder, with reference statistics and an MLflow run. Yields the logged steps. The last
argument is called with what the run waits for."""


def play_on_cluster(
    experiment: TrainExperiment,
    folder: RunFolder,
    reference: bytes,
    target: TrackingTarget,
    wait_for: Callable[[str], None],
) -> Generator[LoggedStep, None, None]:
    """Plays on a worker group."""
    wait_for("Ray to start")
    from pipelines.train.worker_group import GroupTask, run_group

    with cluster() as ray_cluster:
        check_capacity(experiment, ray_cluster)
        folder.claim()
        resources = worker_resources(experiment, ray_cluster)
        code = shipped_code(experiment, folder, ray_cluster)
        task = GroupTask(experiment, folder, reference, target, resources, code=code)
        yield from play_with_rollbacks(experiment.reliability, folder, lambda: run_group(task, wait_for))
        wait_for("Ray to end")


def train(
    experiment: TrainExperiment,
    folder: RunFolder,
    console: Console,
    play: PlayFunction = play_on_cluster,
    watch: Watch | None = None,
) -> None:
    """Plays the experiment to the end of its budget, from the newest checkpoint of the folder if there is one.

    Of a finished run it sends to MLflow what MLflow lacks. Raises InterruptedRunError on Ctrl-C, and SettingsError if
    the cluster is too small, or if the run is finished and MLflow lacks nothing.
    """
    with folder.sole_writer(lambda line: say(console, line)):
        folder.restore()
    owed = UntrackedNote(folder)
    was_owed = bool(owed)
    if _finished(experiment, folder):
        deliver_record(experiment, folder, console)
        return
    with working(console, "MLflow's store"):
        check_tracking_server(experiment)
    with working(console, "data"):
        dataset, record = real_data(experiment, folder, console)
    write_initial_checkpoint(experiment, folder, dataset)
    reference = reference_of(experiment, dataset, console)
    keep_measure(folder, reference.tags)
    with working(console, "the run in MLflow"):
        target = begin_record(experiment, folder, {**record.tags, **reference.tags})
    last: LoggedStep | None = None
    try:
        with (
            as_full_disk_error(experiment.storage),
            TrainView(console, folder.path.name, experiment.metrics.measures) as view,
            closing(play(experiment, folder, reference.content, target, view.wait_for)) as steps,
        ):
            for logged in steps:
                if logged.rollback:
                    view.note(logged.rollback)
                view.show(logged.step, logged.last_step, logged.metrics)
                for sign in logged.signs:
                    view.warn(logged.step, sign)
                if watch is not None:
                    saved = None if logged.checkpoint is None else Path(logged.checkpoint)
                    watch(folder, {"step": logged.step, **logged.metrics}, saved)
                last = logged
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            end_record(target, experiment, folder, "interrupted", TrackingRetry())
        raise InterruptedRunError from None
    except (SettingsError, ClusterError):
        if last is None and not was_owed:  # it was refused before it was played
            owed.clear()
        raise
    except TakenOverError:
        raise
    except (Exception, SystemExit) as error:
        stopped = isinstance(error, StoreError) or interrupts.stop_requested.is_set()
        state: State = "interrupted" if stopped else "failed"
        end_record(target, experiment, folder, state, TrackingRetry())
        raise
    assert last is not None, "a game has at least one round"
    folder.refresh(last.step)
    _print_result(console, folder, last, experiment.metrics.measures)
    retry = TrackingRetry()
    retry.start_final_minute()
    with working(console, "the run's end in MLflow"):
        failure = end_record(target, experiment, folder, "completed", retry)
    say(console, f"curves       {page_of(experiment, target, failure)}")
    if failure is not None:
        print_undelivered(console, experiment, failure, folder.path.name)


def _finished(experiment: TrainExperiment, folder: RunFolder) -> bool:
    """Whether all rounds of the run are played. Raises SettingsError if they are and MLflow lacks nothing."""
    about = finished(experiment, folder)
    if about is not None and not UntrackedNote(folder):
        step, seen = about["step"], about["images_seen"]
        longer = f"budget.images={2 * seen}" if experiment.budget.rounds is None else f"budget.rounds={2 * step}"
        raise SettingsError(
            f"the run '{folder.path.name}' is finished, at step {step}",
            nearest=f"--resume {folder.path.name} {longer}",
        )
    return about is not None


def _print_result(console: Console, folder: RunFolder, last: LoggedStep, measures: Sequence[str]) -> None:
    pictures = folder.pictures()
    say(console, f"{measured(last.metrics, measures)} after {last.step} generator updates")
    say(console, f"samples      {folder.shown(pictures[-1]) if pictures else '-'}")
    say(console, f"checkpoint   {folder.shown(folder.checkpoints()[-1])}")
