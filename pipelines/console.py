"""What every command prints with: lines and bars on the screen, and the same lines in the run's log; what Ray and
MLflow print goes to a file of its own."""

from __future__ import annotations

import io
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import IO, Any, cast
from weakref import WeakKeyDictionary

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from infra.passwords import masked

SILENT_SECONDS, STATUS_SECONDS = 2.0, 60.0
"""How long the screen may be silent, where there is no terminal: at the start of a long step, and after hours."""

PLAIN_WIDTH = 200

Bar = AbstractContextManager[Callable[[float], None]]

_SAID = logging.getLogger(__name__)
_SAID.setLevel(logging.INFO)


class Screen:
    """A text stream that drops what it cannot write, and replaces characters that its encoding lacks: a run goes on
    after its pipe or terminal was closed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes the text if that is possible."""
        with suppress(OSError):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Writes what was kept back, if that is possible."""
        with suppress(OSError):
            self._stream.flush()

    def close(self) -> None:
        """Closes the stream."""
        with suppress(OSError):
            self._stream.close()


def screen_of(stream: Any) -> IO[str]:
    """The stream as a screen."""
    return cast(IO[str], stream if isinstance(stream, Screen) else Screen(stream))


@contextmanager
def quiet(log: Path) -> Iterator[Console]:
    """Sends to `log` all that libraries and child processes write to stdout and stderr. Yields the real screen."""
    for stream in (sys.stdout, sys.stderr):
        screen_of(stream).flush()
    with suppress(AttributeError):  # of a stream that somebody put in its place
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # lines in the order of time
    kept = os.dup(1), os.dup(2)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    screen = screen_of(os.fdopen(os.dup(kept[0]), "w", buffering=1, encoding=sys.stdout.encoding))
    try:
        terminal = screen.isatty()
        yield Console(file=screen, force_terminal=terminal or None, width=None if terminal else PLAIN_WIDTH)
    finally:
        for stream in (sys.stdout, sys.stderr):
            screen_of(stream).flush()  # the log's disk may be full
        screen.close()
        for descriptor, original in enumerate(kept, start=1):
            os.dup2(original, descriptor)
            os.close(original)


def say(console: Console, line: str) -> None:
    """Prints a line, and writes it to the run's log."""
    record(line)
    show(console, line)


def show(console: Console, line: str) -> None:
    """Prints a line unchanged, except for passwords: Rich colours no numbers in it and breaks no paths."""
    _plain_of(console).said = time.monotonic()
    console.print(masked(line), highlight=False, markup=False, soft_wrap=True)


def record(line: str) -> None:
    """Writes a line to the run's log only."""
    _SAID.info("%s", line.strip("\n"))


def say_table(console: Console, table: RenderableType) -> None:
    """Prints a table, and writes it to the run's log."""
    text = io.StringIO()
    Console(file=text, width=PLAIN_WIDTH, force_jupyter=False).print(table, soft_wrap=True)
    record(text.getvalue())
    console.print(table, soft_wrap=not console.is_terminal)


def number(value: float | None) -> str:
    """A metric with the digits that a reader needs."""
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def mean_and_sd(mean: float | None, sd: float | None) -> str:
    """`45.0 ± 1.2`, `4,710 ± 500`: a spread with two digits, and the mean as far as the spread tells. The mean alone
    without a spread."""
    if mean is None or sd is None or not math.isfinite(mean + sd):
        return number(mean)
    if sd == 0:
        return f"{number(mean)} ± 0"
    places = 1 - math.floor(math.log10(float(f"{sd:.1e}")))  # 9.96 has the digits 10
    shown = [f"{round(value, places):,.{max(places, 0)}f}" for value in (mean, sd)]
    return " ± ".join(shown)


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def silence(elapsed: float) -> float:
    """How many seconds the screen may be silent, so long after a step began. A step of hours does not fill a log with
    lines."""
    return min(max(elapsed / 250, SILENT_SECONDS), STATUS_SECONDS)


class _Plain:
    """What bars print on a console that is no terminal."""

    def __init__(self) -> None:
        self.said = time.monotonic()
        """When its last line was printed."""
        self.bars: list[Callable[[], str]] = []
        """What each running bar would print. Only the last one does, which began within the others."""

    @contextmanager
    def bar(self, console: Console, line: Callable[[], str]) -> Iterator[None]:
        """Prints `line()` whenever the console has been silent for `silence()`, until the block ends."""
        ended, began = Event(), time.monotonic()

        def left() -> float:
            now = time.monotonic()
            return self.said + silence(now - began) - now

        def watch() -> None:
            while not ended.wait(max(left(), SILENT_SECONDS / 10)):
                if self.bars[-1] is line and left() <= 0:
                    show(console, line())

        watcher = Thread(target=watch, daemon=True, name="progress")
        self.bars.append(line)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            self.bars.remove(line)


_plain: WeakKeyDictionary[Console, _Plain] = WeakKeyDictionary()


def _plain_of(console: Console) -> _Plain:
    return _plain.setdefault(console, _Plain())


def heartbeat(console: Console, line: Callable[[], str]) -> AbstractContextManager[None]:
    """Without a terminal, prints `line()` whenever nothing was printed for `silence()`. Of several such blocks the
    innermost prints."""
    return nullcontext() if console.is_terminal else _plain_of(console).bar(console, line)


def passing_bar(console: Console, about: str, *columns: ProgressColumn) -> Progress:
    """A bar that leaves nothing on the screen when it ends."""
    shown = (TextColumn(about), BarColumn(), *columns)
    return Progress(*shown, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


@contextmanager
def working(console: Console, about: str) -> Iterator[None]:
    """Shows that something goes on whose length is not known: a moving bar, or without a terminal a line whenever
    nothing was printed for `silence()`. Bars and other such blocks may begin within it."""

    def line(_: float, seconds: float) -> str:
        return f"{duration(seconds)} so far"

    with _bar(console, passing_bar(console, about, TimeElapsedColumn()), about, None, line):
        yield


def count_bar(console: Console, about: str, total: float) -> Bar:
    """A bar that counts to `total`. Yields the function that moves it. Without a terminal it is a line whenever nothing
    was printed for `silence()`."""

    def line(done: float, seconds: float) -> str:
        left = f", {duration(seconds / done * (total - done))} left" if 0 < done <= total else ""
        return f"{done:,.0f} of {total:,.0f}{left}"

    columns = (MofNCompleteColumn(), TextColumn("ETA"), TimeRemainingColumn())
    return _bar(console, passing_bar(console, about, *columns), about, total, line)


def byte_bar(console: Console, about: str, total: float) -> Bar:
    """The same for `total` bytes. Any thread may call the function that moves it."""

    def line(done: float, seconds: float) -> str:
        left = f", {duration(seconds / done * (total - done))} left" if 0 < done <= total else ""
        return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB{left}"

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return _bar(console, passing_bar(console, about, *columns), about, total, line)


@contextmanager
def _bar(
    console: Console, progress: Progress, about: str, total: float | None, line: Callable[[float, float], str]
) -> Iterator[Callable[[float], None]]:
    """`line`: what is printed without a terminal, from the number that is done and the seconds that it took."""
    began, lock, done = time.monotonic(), Lock(), 0.0
    task = progress.add_task(about, total=total)

    def move(more: float) -> None:
        nonlocal done
        with lock:
            done += more
        progress.advance(task, more)

    def said() -> str:
        return f"{about}: {line(done, time.monotonic() - began)}"

    with progress if console.is_terminal else heartbeat(console, said):
        yield move
    if (seconds := time.monotonic() - began) >= 1:
        record(f"{about}: took {seconds:.1f} s")
