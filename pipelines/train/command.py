"""`ganfleet train`: one experiment on one Ray Train worker or several."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, suppress

from rich.console import Console

from gan_core import checkpoint
from gan_core.settings import SettingsError
from infra.cluster import ClusterError, cluster
from infra.stores.protocol import StoreError
from pipelines.console import TrainView, number, say
from pipelines.data.fetch import at_hand
from pipelines.errors import InterruptedRunError
from pipelines.evaluate.reference import obtain_reference, say_reference
from pipelines.runs import RunFolder, TakenOverError, full_disk_told, shared_cache
from pipelines.settings import TrainExperiment, check_room, shares
from pipelines.tracking.retry import Owed, Patience, say_brought, say_owed
from pipelines.tracking.runs import State, ask_tracking, close, prepare_tracking, run_target
from pipelines.tracking.target import TrackingTarget
from pipelines.train.events import Event
from pipelines.train.play import start_of

Played = Callable[[TrainExperiment, RunFolder, bytes, TrackingTarget], Generator[Event, None, None]]
"""Plays an experiment in its folder with a reference, tracked; yields its logged steps."""


def on_cluster(
    experiment: TrainExperiment, folder: RunFolder, reference: bytes, target: TrackingTarget
) -> Generator[Event, None, None]:
    """Plays on a group of Ray Train workers."""
    from pipelines.train.worker_group import Job, run_group

    with cluster() as room:
        check_room(experiment, room)
        folder.take()
        yield from run_group(Job(experiment, folder, reference, target, shares(experiment, room)))


def train(experiment: TrainExperiment, folder: RunFolder, console: Console, played: Played = on_cluster) -> None:
    """Plays the experiment to the end of its budget, from the folder's newest checkpoint if there is one.

    What MLflow lacks of a finished run is brought. Raises InterruptedRunError on Ctrl-C; SettingsError if the cluster
    is too small, or if the run is finished and MLflow lacks nothing.
    """
    with folder.sole_writer(lambda line: say(console, line)):
        folder.take_up()
    finished = _finished(experiment, folder)
    ask_tracking(experiment)
    source = at_hand(experiment.data, experiment.storage, console)
    yardstick = obtain_reference(
        experiment.metrics, source, experiment.storage.folder, console, shared_cache(experiment.storage)
    )
    say_reference(console, yardstick)
    target = run_target(experiment, prepare_tracking(experiment), folder, {**yardstick.tags, **folder.origin})
    if finished:
        _complete(target, experiment, folder, console)
        return
    last: Event | None = None
    try:
        steps = played(experiment, folder, yardstick.content, target)
        with full_disk_told(experiment.storage), TrainView(console, folder.path.name) as view, closing(steps):
            for event in steps:
                view.show(event.step, event.last_step, event.metrics)
                for sign in event.signs:
                    view.warn(event.step, sign)
                last = event
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            Patience().done(lambda: close(target, experiment, folder, "interrupted", None))
        raise InterruptedRunError from None
    except (SettingsError, ClusterError, TakenOverError):
        raise
    except Exception as error:
        state: State = "interrupted" if isinstance(error, StoreError) else "failed"
        Patience().done(lambda: close(target, experiment, folder, state, None))
        raise
    assert last is not None, "a game has at least one round"
    folder.bring(last.step)
    _say_end(console, folder, last, experiment)
    _complete(target, experiment, folder, console)


def _complete(target: TrackingTarget, experiment: TrainExperiment, folder: RunFolder, console: Console) -> None:
    """Ends the run in MLflow, or says how to, if that is away."""
    patience, owed = Patience(), Owed(folder)
    patience.insist()
    if patience.done(lambda: close(target, experiment, folder, "completed", str(folder.checkpoints()[-1]))):
        if owed:
            say_brought(console, experiment, folder.path.name)
        owed.settle()
    else:
        owed.note(patience.error)
        say_owed(console, experiment, "train", folder.path.name)


def _finished(experiment: TrainExperiment, folder: RunFolder) -> bool:
    """Whether it is finished, but for what MLflow lacks of it. Raises SettingsError if it lacks nothing."""
    start = start_of(folder)
    if start is None:
        return False
    about = checkpoint.describe(start)
    step, seen = about["step"], about["images_seen"]
    done: bool = step >= experiment.budget.last_round(seen // step)
    if done and not Owed(folder):
        longer = f"budget.images={2 * seen}" if experiment.budget.rounds is None else f"budget.rounds={2 * step}"
        raise SettingsError(
            f"the run '{folder.path.name}' is finished, at step {step}; nearest: --resume {folder.path.name} {longer}"
        )
    return done


def _say_end(console: Console, folder: RunFolder, last: Event, experiment: TrainExperiment) -> None:
    pictures = folder.pictures()
    say(console, f"FID {number(last.metrics.get('fid'))} after {last.step} generator updates")
    say(console, f"samples      {folder.told(pictures[-1]) if pictures else '-'}")
    say(console, f"checkpoint   {folder.told(folder.checkpoints()[-1])}")
    say(console, f"curves       {experiment.curves}")
