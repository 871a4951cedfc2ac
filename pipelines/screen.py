"""What a person sees: our lines and live tables on the screen, everything that Ray and MLflow say in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipelines.outcome import Outcome, best_of, ranked

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.signs import Sign

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
        sys.stdout.flush()
        sys.stderr.flush()
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


class SearchView:
    """A live table of the trials, the best so far and the time left; without a terminal, lines."""

    def __init__(self, console: Console, trials: int) -> None:
        self.console, self.trials = console, trials
        self.about = ""
        self.rows: dict[str, Outcome] = {}
        self.began, self.printed = time.monotonic(), 0.0
        self.live = Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> SearchView:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def confirm(self, settings: int, seeds: int) -> None:
        """The search's trials have ended: from here on the rows are its best settings, played again."""
        self.about, self.trials, self.rows = f"confirming {settings} settings x {seeds} seeds: ", settings * seeds, {}
        self.began = time.monotonic()
        if not self.console.is_terminal:
            say(self.console, self.about.removesuffix(": "))

    def update(self, now: Outcome) -> None:
        """A trial started, was evaluated or ended."""
        before = self.rows.get(now.trial)
        self.rows[now.trial] = now
        news = now.ended and not (before and before.ended)
        if not self.console.is_terminal and (news or time.monotonic() - self.printed > PLAIN_SECONDS):
            self.printed = time.monotonic()
            row = f"{now.trial}  {now.described}  step {now.step}/{now.last_step}  FID {number(now.fid)}  {now.state}"
            signs = f"  ({now.signs})" if now.signs else ""
            say(self.console, f"{row}{signs}  |  {self._status()}")

    def _status(self) -> str:
        rows = list(self.rows.values())
        ended, seconds = sum(row.ended for row in rows), time.monotonic() - self.began
        best = best_of(rows)
        share = ended + sum(row.step / row.last_step for row in rows if not row.ended)
        left = f", ETA {duration(max(seconds * (self.trials - share) / share, 0))}" if share else ""
        fid = f"best FID {number(best.fid)}" if best else "no FID yet"
        what = "runs" if self.about else "trials"
        return f"{self.about}{ended}/{self.trials} {what}, {fid}, {duration(seconds)} elapsed{left}"

    def _table(self) -> Table:
        table = Table(title=self._status(), title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in ("trial", "settings", "step", "FID", "images/s", "state", "warning signs"):
            table.add_column(heading, justify="right" if heading in ("step", "FID", "images/s") else "left")
        room = max(self.console.height - 6, 4)
        rows = sorted(ranked(list(self.rows.values())), key=lambda row: row.ended)
        for row in rows[:room]:
            rate = "-" if row.images_per_second is None else f"{row.images_per_second:.0f}"
            step = f"{row.step}/{row.last_step}"
            table.add_row(row.trial, row.described, step, number(row.fid), rate, row.state, row.signs)
        return table
