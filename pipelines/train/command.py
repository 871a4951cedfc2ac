"""`ganfleet train`: one experiment on a group of Ray Train workers, which may have only one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, suppress

from rich.console import Console

from gan_core import checkpoint
from gan_core.settings import SettingsError
from infra.cluster import ClusterError, cluster
from infra.stores.protocol import StoreError
from pipelines import interrupts
from pipelines.console import number, say
from pipelines.errors import InterruptedRunError
from pipelines.evaluate.real_data import real_data
from pipelines.evaluate.reference import prepare_reference, print_reference
from pipelines.runs import RunFolder, TakenOverError, as_full_disk_error, shared_cache
from pipelines.settings import TrainExperiment, check_capacity, worker_resources
from pipelines.tracking.retry import TrackingRetry, UntrackedNote, print_caught_up, print_untracked
from pipelines.tracking.runs import State, check_tracking_server, close, prepare_tracking, run_target
from pipelines.tracking.target import TrackingTarget
from pipelines.train._view import TrainView
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import resume_checkpoint

PlayFunction = Callable[[TrainExperiment, RunFolder, bytes, TrackingTarget], Generator[LoggedStep, None, None]]
"""Plays an experiment in its run folder, with reference statistics and an MLflow run. Yields the logged steps."""


def play_on_cluster(
    experiment: TrainExperiment, folder: RunFolder, reference: bytes, target: TrackingTarget
) -> Generator[LoggedStep, None, None]:
    """Plays on a worker group."""
    from pipelines.train.worker_group import GroupTask, run_group

    with cluster() as ray_cluster:
        check_capacity(experiment, ray_cluster)
        folder.claim()
        resources = worker_resources(experiment, ray_cluster)
        yield from run_group(GroupTask(experiment, folder, reference, target, resources))


def train(
    experiment: TrainExperiment, folder: RunFolder, console: Console, play: PlayFunction = play_on_cluster
) -> None:
    """Plays the experiment to the end of its budget, from the newest checkpoint of the folder if there is one.

    Of a finished run it sends to MLflow what MLflow lacks. Raises InterruptedRunError on Ctrl-C, and SettingsError if
    the cluster is too small, or if the run is finished and MLflow lacks nothing.
    """
    with folder.sole_writer(lambda line: say(console, line)):
        folder.restore()
    finished = _finished(experiment, folder)
    check_tracking_server(experiment)
    dataset, record = real_data(experiment, folder, console)
    shared_reference = prepare_reference(
        experiment.metrics, dataset, experiment.storage.folder, console, shared_cache(experiment.storage)
    )
    print_reference(console, shared_reference)
    target = run_target(
        experiment, prepare_tracking(experiment), folder, {**record.tags, **shared_reference.tags, **folder.origin}
    )
    if finished:
        _complete(target, experiment, folder, console)
        return
    last: LoggedStep | None = None
    try:
        steps = play(experiment, folder, shared_reference.content, target)
        with as_full_disk_error(experiment.storage), TrainView(console, folder.path.name) as view, closing(steps):
            for logged in steps:
                view.show(logged.step, logged.last_step, logged.metrics)
                for sign in logged.signs:
                    view.warn(logged.step, sign)
                last = logged
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            TrackingRetry().attempt(lambda: close(target, experiment, folder, "interrupted", None))
        raise InterruptedRunError from None
    except (SettingsError, ClusterError, TakenOverError):
        raise
    except (Exception, SystemExit) as error:
        stopped = isinstance(error, StoreError) or interrupts.stop_requested.is_set()
        state: State = "interrupted" if stopped else "failed"
        TrackingRetry().attempt(lambda: close(target, experiment, folder, state, None))
        raise
    assert last is not None, "a game has at least one round"
    folder.refresh(last.step)
    _print_result(console, folder, last, experiment)
    _complete(target, experiment, folder, console)


def _complete(target: TrackingTarget, experiment: TrainExperiment, folder: RunFolder, console: Console) -> None:
    """Ends the run in MLflow. If MLflow is unavailable it prints how to end the run later."""
    retry, untracked = TrackingRetry(), UntrackedNote(folder)
    retry.start_final_minute()
    if retry.attempt(lambda: close(target, experiment, folder, "completed", str(folder.checkpoints()[-1]))):
        if untracked:
            print_caught_up(console, experiment, folder.path.name)
        untracked.clear()
    else:
        untracked.write(retry.error)
        print_untracked(console, experiment, "train", folder.path.name)


def _finished(experiment: TrainExperiment, folder: RunFolder) -> bool:
    """Whether all rounds of the run are played. Raises SettingsError if they are and MLflow lacks nothing."""
    start = resume_checkpoint(folder)
    if start is None:
        return False
    about = checkpoint.describe(start)
    step, seen = about["step"], about["images_seen"]
    done: bool = step >= experiment.budget.last_round(seen // step)
    if done and not UntrackedNote(folder):
        longer = f"budget.images={2 * seen}" if experiment.budget.rounds is None else f"budget.rounds={2 * step}"
        raise SettingsError(
            f"the run '{folder.path.name}' is finished, at step {step}",
            nearest=f"--resume {folder.path.name} {longer}",
        )
    return done


def _print_result(console: Console, folder: RunFolder, last: LoggedStep, experiment: TrainExperiment) -> None:
    pictures = folder.pictures()
    say(console, f"FID {number(last.metrics.get('fid'))} after {last.step} generator updates")
    say(console, f"samples      {folder.shown(pictures[-1]) if pictures else '-'}")
    say(console, f"checkpoint   {folder.shown(folder.checkpoints()[-1])}")
    say(console, f"curves       {experiment.curves}")
