"""What a person sees: our lines and bars on the screen, everything that Ray and MLflow say in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.health.signs import Sign

PLAIN_SECONDS = 30.0
"""Without a terminal, a line at least this often."""

PLAIN_WIDTH = 200


@contextmanager
def quiet(log: Path) -> Iterator[Console]:
    """Sends what any library or child process writes to stdout or stderr to `log`; yields the real screen."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    screen = os.fdopen(os.dup(kept[0]), "w", buffering=1)
    try:
        terminal = screen.isatty()
        yield Console(file=screen, force_terminal=terminal or None, width=None if terminal else PLAIN_WIDTH)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # the log's disk may be full
                stream.flush()
        screen.close()
        for descriptor, original in enumerate(kept, start=1):
            os.dup2(original, descriptor)
            os.close(original)


def say(console: Console, line: str) -> None:
    """Prints a line as it is: no colours guessed from numbers, no breaks inside paths."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def number(value: float | None) -> str:
    """A metric as people read it."""
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


@contextmanager
def ticking(console: Console, about: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of how much of `total` is done, moved by calling what is yielded; without a terminal, a line at times."""
    began = printed = time.monotonic()
    done = 0
    columns = (TextColumn(about), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = progress.add_task(about, total=total)

    def tick(more: int) -> None:
        nonlocal done, printed
        done += more
        progress.update(task, completed=done)
        now = time.monotonic()
        if not console.is_terminal and now - printed > PLAIN_SECONDS:
            printed = now
            left = duration((now - began) / done * (total - done))
            say(console, f"{about}: {done} of {total}, {left} left")

    if not console.is_terminal:
        yield tick
        return
    with progress:
        yield tick


@contextmanager
def moving(console: Console, about: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of `total` bytes, moved by any thread; without a terminal, a line at times."""
    columns = (TextColumn(about), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = progress.add_task(about, total=total)
    told = time.monotonic()

    def move(more: int) -> None:
        nonlocal told
        progress.advance(task, more)
        now = time.monotonic()
        if not console.is_terminal and now - told > PLAIN_SECONDS:
            told = now
            say(console, f"{about}: {progress.tasks[0].completed / 1e6:.0f} of {total / 1e6:.0f} MB")

    if not console.is_terminal:
        yield move
        return
    with progress:
        yield move


def counted(console: Console, about: str, batches: Iterable[Tensor], total: int) -> Iterator[Tensor]:
    """The batches, with a bar of how many images of `total` went by."""
    with ticking(console, about, total) as tick:
        for images in batches:
            yield images
            tick(len(images))


class TrainView:
    """A bar with images a second, FID and time left; without a terminal, lines."""

    def __init__(self, console: Console, name: str) -> None:
        self.console, self.name = console, name
        self.fid: float | None = None
        self.began, self.first_step, self.printed = time.monotonic(), None, 0.0  # type: float, int | None, float
        self.progress = Progress(
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[about]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.progress.add_task(name, total=None, about="starting")

    def __enter__(self) -> TrainView:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def show(self, step: int, last_step: int, metrics: dict[str, float]) -> None:
        """One logged step."""
        evaluated = "fid" in metrics
        self.fid = metrics.get("fid", self.fid)
        about = f"FID {number(self.fid)}  {metrics['images_per_second']:.0f} images/s"
        self.progress.update(self.task, completed=step, total=last_step, about=about)
        if self.first_step is None:
            self.first_step, self.began = step, time.monotonic()
        now = time.monotonic()
        if self.console.is_terminal or not (evaluated or now - self.printed > PLAIN_SECONDS):
            return
        done = step - self.first_step
        left = (now - self.began) / done * (last_step - step) if done else None
        eta = "" if left is None else f"  ETA {duration(left)}"
        say(self.console, f"{self.name}  step {step}/{last_step}  {about}{eta}")
        self.printed = now

    def warn(self, step: int, sign: Sign) -> None:
        """A warning sign that is told at a logged step."""
        say(self.console, f"{self.name}  step {step}  warning sign, {sign}")
