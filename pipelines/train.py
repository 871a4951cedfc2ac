"""`ganfleet train`: one experiment on one Ray Train worker or several."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, suppress

from rich.console import Console

from gan_core import checkpoint
from gan_core.settings import SettingsError
from infra.cluster import cluster
from infra.store import StoreError
from pipelines.fetch import at_hand
from pipelines.mirror import shared_cache
from pipelines.reference import obtain_reference, say_reference
from pipelines.room import check_room, shares
from pipelines.rows import Event
from pipelines.runs import RunFolder
from pipelines.screen import TrainView, number, say
from pipelines.settings import TrainExperiment
from pipelines.tracking import close, prepare_tracking, run_target
from pipelines.worker import TrackingTarget, start_of


class InterruptedRunError(Exception):
    """Ctrl-C: what there is can be gone on with."""


Played = Callable[[TrainExperiment, RunFolder, bytes, TrackingTarget], Generator[Event, None, None]]
"""Plays an experiment in its folder with a reference, tracked; yields its logged steps."""


def on_cluster(
    experiment: TrainExperiment, folder: RunFolder, reference: bytes, target: TrackingTarget
) -> Generator[Event, None, None]:
    """Plays on a group of Ray Train workers."""
    from pipelines.group import Job, run_group

    with cluster() as room:
        check_room(experiment, room)
        yield from run_group(Job(experiment, folder, reference, target, shares(experiment, room)))


def train(experiment: TrainExperiment, folder: RunFolder, console: Console, played: Played = on_cluster) -> None:
    """Plays the experiment to the end of its budget, from the folder's newest checkpoint if there is one.

    Raises InterruptedRunError on Ctrl-C; SettingsError if the cluster is too small or the run is finished already.
    """
    folder.take_up()
    _check_unfinished(experiment, folder)
    source = at_hand(experiment.data, experiment.storage, console)
    yardstick = obtain_reference(
        experiment.metrics, source, experiment.storage.folder, console, shared_cache(experiment.storage)
    )
    say_reference(console, yardstick)
    target = run_target(experiment, prepare_tracking(experiment), folder, {**yardstick.tags, **folder.origin})
    last: Event | None = None
    try:
        steps = played(experiment, folder, yardstick.content, target)
        with TrainView(console, folder.path.name) as view, closing(steps):
            for event in steps:
                view.show(event.step, event.last_step, event.metrics)
                for sign in event.signs:
                    view.warn(event.step, sign)
                last = event
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            close(target, experiment, folder, "interrupted", None)
        raise InterruptedRunError from None
    except SettingsError:
        raise
    except Exception as error:
        close(target, experiment, folder, "interrupted" if isinstance(error, StoreError) else "failed", None)
        raise
    assert last is not None, "a game has at least one round"
    folder.bring(last.step)
    close(target, experiment, folder, "completed", str(folder.checkpoints()[-1]))
    _say_end(console, folder, last, experiment)


def _check_unfinished(experiment: TrainExperiment, folder: RunFolder) -> None:
    start = start_of(folder)
    if start is None:
        return
    about = checkpoint.describe(start)
    step, seen = about["step"], about["images_seen"]
    if step >= experiment.budget.last_round(seen // step):
        longer = f"budget.images={2 * seen}" if experiment.budget.rounds is None else f"budget.rounds={2 * step}"
        raise SettingsError(
            f"the run '{folder.path.name}' is finished, at step {step}; nearest: --resume {folder.path.name} {longer}"
        )


def _say_end(console: Console, folder: RunFolder, last: Event, experiment: TrainExperiment) -> None:
    pictures = folder.pictures()
    say(console, f"FID {number(last.metrics.get('fid'))} after {last.step} generator updates")
    say(console, f"samples      {folder.told(pictures[-1]) if pictures else '-'}")
    say(console, f"checkpoint   {folder.told(folder.checkpoints()[-1])}")
    say(console, f"curves       {experiment.curves}")
