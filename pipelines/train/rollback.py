"""What happens when a game diverges: it ends, or it goes back to its last checkpoint (`reliability.on_divergence`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from gan_core import checkpoint
from gan_core.health.divergence import DivergedError
from infra.tracker import FolderTracker
from pipelines.runs import RunFolder
from pipelines.settings import Reliability
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import resume_checkpoint

_LOG = logging.getLogger(__name__)


def play_with_rollbacks(
    settings: Reliability, folder: RunFolder, begin: Callable[[], Generator[LoggedStep, None, None]]
) -> Generator[LoggedStep, None, None]:
    """Plays what `begin` begins from the newest checkpoint, and after each rollback begins it again. Yields the logged
    steps; the first one after a rollback says so.

    The steps between the checkpoint and the divergence are played again, and yielded again. Raises DivergedError if the
    settings allow no rollback, or no further one.
    """
    note = ""
    while True:
        try:
            with closing(begin()) as steps:
                for logged in steps:
                    yield replace(logged, rollback=note) if note else logged
                    note = ""
            return
        except DivergedError as error:
            note = _roll_back(settings, folder, error)


def _roll_back(settings: Reliability, folder: RunFolder, error: DivergedError) -> str:
    """Writes the rollback into the newest checkpoint, from which the game then begins again, and into the run's tags.

    Because it is written there, it holds for a run that is resumed, and for any number of workers. A checkpoint from
    which the game has diverged twice is given up for the one before it. Returns a line that says what was done.
    """
    if settings.on_divergence == "stop":
        raise error
    folder.restore()
    start = resume_checkpoint(folder)
    if start is None:
        raise error
    about = checkpoint.describe(start)
    done, scale = about.get("rollbacks", 0), about.get("rate_scale", 1.0) * settings.rollback_lr_factor
    if done >= settings.rollbacks:
        error.rollbacks = done
        raise error
    older = [step for step in folder.steps() if step < about["step"]]
    if about.get("rolled_back_to") and older:
        folder.discard_after(older[-1])
        folder.restore()
        start = resume_checkpoint(folder)
        if start is None:
            raise error
        about = checkpoint.describe(start)
    checkpoint.note_rollback(start, done + 1, scale)
    note = (
        f"{error}; back to step {about['step']}, learning rates times {scale:g}"
        f" (rollback {done + 1} of {settings.rollbacks})"
    )
    _LOG.warning("%s: %s", folder.path.name, note)
    FolderTracker(folder.path).tags({f"ganfleet.rollback.{done + 1}": note})
    folder.save(about["step"])
    return note
