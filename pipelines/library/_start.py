"""The life of a run or search, from its request to its end: the same for a command and for a call in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


@contextmanager
def started(
    verb: str, request: Request[Any], watch: Watch | None = None
) -> Iterator[tuple[RunFolder, Callable[[Screen | None], Ending]]]:
    """Begins what is requested. Yields the run's folder, and a function that plays to the end and returns how it ended.
    Raises SettingsError if it is refused before it begins."""
    check_cluster()
    with interrupts.noted(), begin(ready(typed_again(request))) as (claimed, undo):

        def play(console: Console) -> None:
            with working(console, "loading PyTorch, Ray and MLflow"), interrupts.deferred():
                command = _command(verb)
            seen = None if watch is None else partial(watch, console)
            command(claimed.experiment, claimed.folder, console, watch=seen)

        storage, folder = claimed.experiment.storage, claimed.folder
        yield folder, partial(played, verb, storage, folder, undo, play)


def _command(verb: str) -> Callable[..., None]:
    """Imports torch, Ray and MLflow."""
    if verb == "train":
        from pipelines.train.command import train

        return train
    from pipelines.search.command import search

    return search
