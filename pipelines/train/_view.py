"""What a person sees of a training run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gan_core.health.signs import Sign
from pipelines.console import duration, heartbeat, passing_bar, record, say, silence
from pipelines.tracking.pages import measured


class TrainView:
    """A bar with images a second, FID, other `measures` and time left. Without a terminal it prints lines: one at each
    evaluation, and one whenever the screen was silent for too long."""

    def __init__(self, console: Console, name: str, measures: Sequence[str] = ()) -> None:
        self.console, self.name, self.measures = console, name, measures
        self.evaluated: dict[str, float] = {}
        self.began = self.waited = self.recorded = time.monotonic()
        self.waiting, self.status = "", ""
        self.first_step: int | None = None
        columns = (MofNCompleteColumn(), TextColumn("{task.fields[about]}"), TextColumn("ETA"), TimeRemainingColumn())
        self.progress = passing_bar(console, name, *columns, TimeElapsedColumn())
        self.task = self.progress.add_task(name, total=None, about="starting")

    def __enter__(self) -> TrainView:
        shown: AbstractContextManager[object] = heartbeat(self.console, self.line)
        self.shown = self.progress if self.console.is_terminal else shown
        self.shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.__exit__(None, None, None)

    def wait_for(self, what: str) -> None:
        """Shows what the run waits for, until its next logged step."""
        if what != self.waiting:
            self._record_wait()
            self.waiting, self.waited = what, time.monotonic()
        self.progress.update(self.task, about=f"waiting for {what}")

    def _record_wait(self) -> None:
        seconds = time.monotonic() - self.waited
        if self.waiting and seconds >= 1:
            record(f"{self.name}  waited for {self.waiting}: {seconds:.1f} s")
        self.waiting = ""

    def line(self) -> str:
        """The state of the run."""
        waiting = f"waiting for {self.waiting}, {duration(time.monotonic() - self.waited)} so far"
        return f"{self.name}  {waiting if self.waiting else self.status or 'starting'}"

    def show(self, step: int, last_step: int, metrics: dict[str, float]) -> None:
        """Shows a logged step."""
        self._record_wait()
        evaluated = "fid" in metrics
        self.evaluated = metrics if evaluated else self.evaluated
        about = f"{measured(self.evaluated, self.measures)}  {metrics['images_per_second']:.0f} images/s"
        self.progress.update(self.task, completed=step, total=last_step, about=about)
        first = self.first_step is None
        now = time.monotonic()
        if self.first_step is None:
            self.first_step, self.began = step, now
        done = step - self.first_step
        left = (now - self.began) / done * (last_step - step) if done else None
        eta = "" if left is None else f"  ETA {duration(left)}"
        self.status = f"step {step}/{last_step}  {about}{eta}"
        if evaluated or first:
            (record if self.console.is_terminal else self._say)(self.line())
            self.recorded = now
        elif now - self.recorded > silence(now - self.began):
            record(self.line())
            self.recorded = now

    def _say(self, line: str) -> None:
        say(self.console, line)

    def note(self, line: str) -> None:
        """Prints a line about the run."""
        say(self.console, f"{self.name}  {line}")

    def warn(self, step: int, sign: Sign) -> None:
        """Prints a warning sign that was found at a logged step."""
        say(self.console, f"{self.name}  step {step}  warning sign, {sign}")
