"""`ganfleet submit --to here`: runs in this process, for a debugger.

A training run with one worker uses no Ray, so a breakpoint anywhere in it works. Of a search, or of several workers,
only the driver runs here. All output goes to the screen, and at a terminal an error opens pdb.
"""

from __future__ import annotations

import pdb
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gan_core.settings import SettingsError
from pipelines import interrupts
from pipelines.console import screen_of
from pipelines.launch import Request, begin, check_cluster, finish, played, ready
from pipelines.runs import RunFolder
from pipelines.settings import TrainExperiment

if TYPE_CHECKING:
    from pipelines.tracking.target import TrackingTarget
    from pipelines.train.logged_steps import LoggedStep


def play_here(verb: str, request: Request[Any]) -> None:
    """Plays a new or resumed run to its end. Exits as `train` and `search` do."""
    experiment = request.experiment
    if experiment.metrics.asynchronous and experiment.compute.workers == 1:
        raise SettingsError(
            "metrics.async=true has no meaning with --to here, where there is no process beside this one",
            nearest="metrics.async=false",
        )

    def play(claimed: Request[Any], console: Console) -> None:
        experiment, folder = claimed.experiment, claimed.folder
        if verb == "search":
            with interrupts.deferred():
                from pipelines.search.command import search

            search(experiment, folder, console)
        else:
            with interrupts.deferred():
                from pipelines.train.command import play_on_cluster, train

            train(experiment, folder, console, play_in_process if experiment.compute.workers == 1 else play_on_cluster)

    if verb == "search" or experiment.compute.workers > 1:
        check_cluster()
    screen = Console(file=screen_of(sys.stdout))
    with interrupts.noted(), begin(ready(request)) as (claimed, undo):
        play_claimed = with_debugger(partial(play, claimed))
        finish(played(verb, experiment.storage, claimed.folder, undo, play_claimed, lambda _: nullcontext(screen)))


def play_in_process(
    experiment: TrainExperiment,
    folder: RunFolder,
    reference: bytes,
    target: TrackingTarget,
    wait_for: Callable[[str], None],
) -> Generator[LoggedStep, None, None]:
    """Plays the whole experiment here, from the folder's newest checkpoint if there is one."""
    wait_for("the first logged step")
    import torch

    from pipelines.train.play import play, resume_checkpoint
    from pipelines.train.rollback import play_with_rollbacks

    wanted = experiment.compute.device
    device = "cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu"
    with folder.sole_writer():
        folder.claim()
        folder.restore()

        def begin() -> Generator[LoggedStep, None, None]:
            return play(experiment, folder, reference, target, device, resume_checkpoint(folder))

        yield from play_with_rollbacks(experiment.reliability, folder, begin)


def with_debugger(play: Callable[[Console], None]) -> Callable[[Console], None]:
    """The same function; if there is a terminal, an error opens the debugger where it was raised."""
    from pipelines.interrupts import InterruptedRunError

    def shown(console: Console) -> None:
        try:
            play(console)
        except (SettingsError, InterruptedRunError):
            raise
        except Exception as error:
            if sys.stdin.isatty():
                traceback.print_exc()
                pdb.post_mortem(error.__traceback__)
            raise

    return shown
