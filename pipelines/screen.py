"""What a person sees: our lines and live tables on the screen, everything that Ray and MLflow say in a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_SECONDS = 30.0
"""Without a terminal, a line at least this often."""


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
        yield Console(file=screen, force_terminal=screen.isatty() or None)
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


class SearchView:
    """A live table of the trials, the best so far and the time left; without a terminal, lines."""

    def __init__(self, console: Console, trials: int) -> None:
        self.console, self.trials = console, trials
        self.rows: dict[str, dict[str, object]] = {}
        self.began, self.printed = time.monotonic(), 0.0
        self.live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> SearchView:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def update(self, trial: str, settings: str, state: str, result: dict[str, float], last_step: int) -> None:
        """A trial started, was evaluated or ended."""
        step, fid = int(result.get("step", 0)), result.get("fid")
        rate, before = result.get("images_per_second"), self.rows.get(trial, {}).get("state")
        self.rows[trial] = dict(settings=settings, state=state, step=step, last=last_step, fid=fid, rate=rate)
        now = time.monotonic()
        ended = state != before and state not in ("running", "waiting")
        if not self.console.is_terminal and (ended or now - self.printed > PLAIN_SECONDS):
            self.printed = now
            row = f"{trial}  {settings}  step {step}/{last_step}  FID {number(fid)}  {state}"
            say(self.console, f"{row}  |  {self._status()}")

    def _status(self) -> str:
        fids = [row["fid"] for row in self.rows.values() if row["fid"] is not None]
        ended = [row for row in self.rows.values() if row["state"] not in ("running", "waiting")]
        share = len(ended) + sum(
            row["step"] / row["last"] for row in self.rows.values() if row["state"] == "running"  # type: ignore[operator, misc]
        )
        left = (time.monotonic() - self.began) * (self.trials - share) / share if share else None
        best = f"best FID {number(min(fids))}" if fids else "no FID yet"  # type: ignore[type-var, arg-type]
        eta = "" if left is None else f", ETA {duration(max(left, 0))}"
        return f"{len(ended)}/{self.trials} trials, {best}, {duration(time.monotonic() - self.began)} elapsed{eta}"

    def _table(self) -> Table:
        table = Table(title=self._status(), title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading in ("trial", "settings", "step", "FID", "images/s", "state"):
            table.add_column(heading, justify="right" if heading in ("step", "FID", "images/s") else "left")
        room = max(self.console.height - 6, 4)
        active = [row for row in self.rows.items() if row[1]["state"] in ("running", "waiting")]
        ended = [row for row in self.rows.items() if row not in active]
        ended.sort(key=lambda row: (row[1]["fid"] is None, row[1]["fid"]))
        for name, row in (active + ended)[:room]:
            rate = "-" if row["rate"] is None else f"{row['rate']:.0f}"
            step = f"{row['step']}/{row['last']}"
            table.add_row(name, str(row["settings"]), step, number(row["fid"]), rate, str(row["state"]))  # type: ignore[arg-type]
        return table
