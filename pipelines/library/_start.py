"""The life of a run or search, from its request to its end: the same for a command and for a call in Python."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import interrupts
from pipelines.console import working
from pipelines.launch import Ending, Request, begin, check_cluster, played, ready
from pipelines.runs import RunFolder
from pipelines.sync import typed_again

Watch = Callable[[Console, RunFolder, dict[str, Any], Path | None], None]
"""What is called with each logged row: the folder of the run or trial, the row, and the checkpoint of that step."""
Screen = Callable[[Path], AbstractContextManager[Console]]


def start(
    verb: str, request: Request[Any], watch: Watch | None = None, screen: Screen | None = None
) -> tuple[RunFolder, Ending]:
    """Plays what is requested, to its end. Returns the run's folder, and how it ended. Raises SettingsError if it was
    refused before it began."""
    check_cluster()
    with interrupts.noted(), begin(ready(typed_again(request))) as (claimed, undo):
        play = partial(_play, verb, claimed, watch)
        return claimed.folder, played(verb, claimed.experiment.storage, claimed.folder, undo, play, screen)


def _play(verb: str, request: Request[Any], watch: Watch | None, console: Console) -> None:
    play: Callable[..., None]
    with working(console, "loading PyTorch, Ray and MLflow"), interrupts.deferred():
        if verb == "train":
            from pipelines.train.command import train

            play = train
        else:
            from pipelines.search.command import search

            play = search
    seen = None if watch is None else partial(watch, console)
    play(request.experiment, request.folder, console, watch=seen)
