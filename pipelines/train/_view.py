"""What a person sees of a training run."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

from gan_core.health.signs import Sign
from pipelines.console import PLAIN_SECONDS, duration, number, passing_bar, say


class TrainView:
    """A bar with images a second, FID and time left. Without a terminal it prints lines."""

    def __init__(self, console: Console, name: str) -> None:
        self.console, self.name = console, name
        self.fid: float | None = None
        self.began, self.first_step, self.printed = time.monotonic(), None, 0.0  # type: float, int | None, float
        columns = (MofNCompleteColumn(), TextColumn("{task.fields[about]}"), TextColumn("ETA"), TimeRemainingColumn())
        self.progress = passing_bar(console, name, *columns)
        self.task = self.progress.add_task(name, total=None, about="starting")

    def __enter__(self) -> TrainView:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def show(self, step: int, last_step: int, metrics: dict[str, float]) -> None:
        """Shows a logged step."""
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

    def note(self, line: str) -> None:
        """Prints a line about the run."""
        say(self.console, f"{self.name}  {line}")

    def warn(self, step: int, sign: Sign) -> None:
        """Prints a warning sign that was found at a logged step."""
        say(self.console, f"{self.name}  step {step}  warning sign, {sign}")
