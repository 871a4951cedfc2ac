"""A call in Python plays a run or search as a command does, and returns instead of ending the process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gan_core.settings import SettingsError
from pipelines import interrupts
from pipelines.launch import CommandLine, Request, search_request, train_request
from pipelines.library._callbacks import Callbacks
from pipelines.library._notebook import in_cell, in_notebook
from pipelines.library._start import started
from pipelines.library._words import written
from pipelines.runs import RunFolder

_playing = threading.Lock()


def play(verb: str, line: CommandLine, callbacks: Sequence[object], as_run: Callable[[RunFolder], object]) -> RunFolder:
    """Plays to the end, or to Ctrl-C. Returns the folder. Raises the error that ended it.

    `as_run`: how callbacks see the folder of a run or trial.
    """
    watch = None if callbacks == () else Callbacks(callbacks, as_run)
    with _alone(verb), interrupts.handled():
        request: Request[Any] = train_request(line) if verb == "train" else search_request(line)
        request = replace(request, typed=written(verb, line))
        with started(verb, request, watch) as (folder, play_on):
            ending = play_on(in_cell if in_notebook() else None)
    error = ending.error
    if error is None:
        for note in ending.lines:
            print(f"{note}, or .resume() of what is returned", file=sys.stderr)
        return folder
    if isinstance(error, SystemExit):
        error = RuntimeError(f"{verb} was ended by exit code {error.code}")
    for note in ending.lines:
        if not isinstance(error, SettingsError):
            error.add_note(note)
    raise error


@contextmanager
def _alone(verb: str) -> Iterator[None]:
    """A process plays one run or search at a time: it has one standard output, and one cluster."""
    if not _playing.acquire(blocking=False):
        raise RuntimeError(f"this process plays another run or search; nearest: {verb} after its end, or in a process")
    try:
        yield
    finally:
        _playing.release()
