"""A search on the screen: a live table of its trials, or lines without a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.console import STATUS_SECONDS, duration, heartbeat, number, record, say
from pipelines.search._outcome import Outcome, best_of, ranked, short_names, with_names
from pipelines.search.report._eta import Ladder, assumption, trials_left, work_done
from pipelines.search.report._shorten import Shortening, fitting
from pipelines.settings import SearchExperiment

_NARROW = 120
"""On a screen of fewer columns, warning signs and reasons are printed below the table."""

_MOST_NOTES = 4

_FOOT = 3
"""Lines below the table: hidden trials, shortened names, the ETA's assumption."""


class SearchView:
    """Shows the trials of a search, the best so far, the time left and the budgets: a table, or without a terminal a
    line for each trial that ends, and one whenever the screen was silent for too long. `clock`: a monotonic clock in
    seconds."""

    def __init__(
        self, console: Console, experiment: SearchExperiment, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.search, self.clock = console, experiment.search, clock
        self.objective = experiment.objective
        self.names = short_names(experiment.entries)
        self.ladder = Ladder.of(experiment)
        self.rows: dict[str, Outcome] = {}
        self.before: dict[str, Outcome] = {}
        """The trials of a resumed search as they were at the start: their work was done by earlier drivers."""
        self.total, self.scheduler, self.about = self.search.trials, self.search.scheduler, ""
        self.most_hours, self.most_images = self.search.hours, self.search.images
        self.images, self.earlier = 0, 0.0
        self.began = self.recorded = self.waited = clock()
        self.waiting, self.explained = "", False
        self.live = Live(
            console=console,
            get_renderable=self.table,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> SearchView:
        shown: AbstractContextManager[object] = heartbeat(self.console, self.status)
        self.shown = self.live if self.console.is_terminal else shown
        self.shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.shown.__exit__(None, None, None)

    def wait_for(self, what: str) -> None:
        """Shows what the search waits for, until the next evaluation."""
        if what == self.waiting:
            return
        seconds = self.clock() - self.waited
        if self.waiting and seconds >= 1:
            record(f"waited for {self.waiting}: {seconds:.1f} s")
        self.waiting, self.waited = what, self.clock()

    def restore(self, known: Sequence[Outcome]) -> None:
        """Adds the trials of a resumed search."""
        self.before = {one.trial: one for one in with_names(known, self.names)}
        self.rows = {**self.before, **self.rows}

    def update(self, now: Outcome) -> None:
        """A trial has started, was evaluated, or has ended. Without a terminal, prints a line when it ends."""
        (now,) = with_names([now], self.names)
        before = self.rows.get(now.trial)
        self.rows[now.trial] = now
        if now.value is not None and self.waiting and now != before:
            self.wait_for("")
        if now.ended and not (before and before.ended):
            line = f"trial {now.trial}  {now.described}  step {now.step}/{now.last_step}  {self._scored(now)}"
            note = f"  ({_note(now)})" if _note(now) else ""
            self._say(f"{line}  {now.state}{note}")

    def _say(self, line: str) -> None:
        """A terminal shows it in the table."""
        if self.console.is_terminal:
            record(line)
        else:
            say(self.console, line)

    def confirm(self, runs: Sequence[Outcome], seeds: int) -> None:
        """The confirmation starts: from now on the rows are its `runs`."""
        self.about = f"confirming {len(runs) // seeds} settings x {seeds} seeds: "
        self.total, self.scheduler, self.before = len(runs), "none", {}
        self.rows = {one.trial: one for one in with_names(runs, self.names)}
        self.began = self.clock()
        self.earlier, self.ladder = 0.0, replace(self.ladder, rungs=())
        self.most_hours = self.most_images = None
        self._say(self.about.removesuffix(": "))

    def tick(self, images: int, seconds: float) -> None:
        """Called often. Each minute the log gets a line.

        `images`: real images that all trials have seen; `seconds`: how long the search has run, under all its drivers.
        """
        self.images = images
        self.earlier = max(seconds - (self.clock() - self.began), 0.0)
        if not self.explained and self.seconds_left() is not None:
            self._say(assumption(self.scheduler))
            self.explained = True
        if self.clock() - self.recorded >= STATUS_SECONDS:
            self.recorded = self.clock()
            record(self.status())

    def status(self) -> str:
        """The state of the search in a line."""
        return ", ".join(part for part in (self._counts(), self._waiting(), self._best(), self._times()) if part)

    def _waiting(self) -> str:
        return f"waiting for {self.waiting}, {duration(self.clock() - self.waited)} so far" if self.waiting else ""

    def table(self) -> RenderableType:
        """The table for a terminal, no longer than the screen: running trials first, then the best."""
        rows = sorted(
            ranked(list(self.rows.values()), self.objective), key=lambda one: one.ended or one.state == "waiting"
        )
        head = [f"{self._counts()}, {self._times()}", self._best()]
        head += [self._waiting()] * bool(self.waiting)
        noted = sorted((one for one in rows if _note(one)), key=lambda one: one.state != "failed")
        notes = [f"{one.trial}  {_note(one)}" for one in noted] if self._narrow else []
        more = len(notes) - _MOST_NOTES
        notes = notes[:_MOST_NOTES] + [f"more with notes: {more}"] * (more > 0)
        head_lines = sum(-(-len(line) // self.console.width) for line in head)
        free = self.console.height - head_lines - 2  # the column headings and the cursor's line
        if free < 12:
            notes = []
        height = max(free - len(notes) - (_FOOT if free >= 12 else 0), 1)
        table, shortening = self._rows(rows[:height])
        hidden = [f"trials without a row: {len(rows) - height}"] * (len(rows) > height)
        foot = [*hidden, shortening.legend, assumption(self.scheduler)] if free >= 12 else []
        return Group(*map(Text, head), table, *_lines(notes, "yellow"), *_lines(foot, "dim"))

    @property
    def _narrow(self) -> bool:
        return self.console.width < _NARROW

    def _rows(self, rows: Sequence[Outcome]) -> tuple[Table, Shortening]:
        """The table, and how its settings are shortened to fit."""
        ends = {one.last_step for one in rows}
        step = f"step/{ends.pop()}" if len(ends) == 1 else "step"
        rate = "img/s" if self._narrow else "images/s"
        measured = [self.objective.label] + ["FID"] * (not self.objective.is_fid)
        headings = ["trial", "settings", step, *measured, "rung", "state", rate] + ["notes"] * (not self._narrow)
        cells = [self._cells(one, with_end=step == "step") for one in rows]
        fixed = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
        notes = 0 if self._narrow else min(fixed[-1], self.console.width // 4) + 1
        others = [width for heading, width in zip(headings, fixed, strict=True) if heading not in ("settings", "notes")]
        widest = max(self.console.width - sum(others) - len(others) - notes - 1, 8)
        shortening = fitting([one.settings for one in rows], widest)
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        for heading in headings:
            right = heading in (step, *measured, "rung", rate)
            width = widest if heading == "settings" else None
            table.add_column(
                heading, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", max_width=width
            )
        best = best_of(list(self.rows.values()), self.objective)
        for one, line in zip(rows, cells, strict=True):
            line[1] = shortening.line(one.settings)
            style = "bold green" if one is best else "red" if one.state == "failed" else ""
            table.add_row(*map(Text, line), style=style)
        return table, shortening

    def _cells(self, one: Outcome, with_end: bool) -> list[str]:
        """A row without its settings. `with_end`: the step is written with the trial's last step."""
        rungs = len(self.ladder.rungs)
        rung = f"{self.ladder.passed(one)}/{rungs}" if rungs else "-"
        rate = "-" if one.images_per_second is None else f"{one.images_per_second:.0f}"
        state = one.state
        if self._narrow:
            state = state.replace("completed", "done") + " !" * bool(_note(one))
        step = f"{one.step}/{one.last_step}" if with_end else str(one.step)
        measured = [number(one.value)] + [number(one.fid)] * (not self.objective.is_fid)
        cells = [one.trial, "", step, *measured, rung, state, rate]
        return cells if self._narrow else [*cells, _note(one)]

    def _counts(self) -> str:
        rows = list(self.rows.values())
        states = Counter(one.state for one in rows)
        by_state = ", ".join(f"{states[state]} {state}" for state in ("running", "stopped", "failed") if states[state])
        ended = f"{sum(one.ended for one in rows)}/{self.total} {'runs' if self.about else 'trials'}"
        return f"{self.about}{ended}" + (f" ({by_state})" if by_state else "")

    def _best(self) -> str:
        best = best_of(list(self.rows.values()), self.objective)
        label = self.objective.label
        return f"best {self._scored(best)} (trial {best.trial}, {best.described})" if best else f"no {label} yet"

    def _scored(self, one: Outcome) -> str:
        """The objective of a trial, and its FID if that is another measure."""
        fid = "" if self.objective.is_fid else f", FID {number(one.fid)}"
        return f"{self.objective.label} {number(one.value)}{fid}"

    def _times(self) -> str:
        left = self.seconds_left()
        of = "" if self.most_hours is None else f" of {self.most_hours:g} h"
        parts = [f"{duration(self.earlier + self.clock() - self.began)}{of} elapsed"]
        if self.most_images is not None:
            parts.append(f"{self.images:,} of {self.most_images:,} images")
        if left is not None:
            parts.append(f"ETA {duration(left)}")
        return ", ".join(parts)

    def seconds_left(self) -> float | None:
        """At the pace of this driver, and no longer than the budgets last. None until some work is done."""
        rows, elapsed = list(self.rows.values()), self.clock() - self.began
        done = work_done(rows) - work_done(list(self.before.values()))
        if done <= 0 or elapsed <= 0:
            return None
        left = trials_left(rows, self.total, self.scheduler, self.ladder) * elapsed / done
        if self.most_hours is not None:
            left = min(left, max(self.most_hours * 3600 - self.earlier - elapsed, 0.0))
        if self.most_images is not None and self.images:
            unspent = max(self.most_images - self.images, 0) / self.images
            left = min(left, unspent * work_done(rows) * elapsed / done)
        return left


def _note(one: Outcome) -> str:
    """Why a trial failed, and its warning signs."""
    return "; ".join(part for part in (one.reason if one.state == "failed" else "", one.signs) if part)


def _lines(lines: Sequence[str], style: str) -> list[Text]:
    return [Text(line, style=style, no_wrap=True, overflow="ellipsis") for line in lines if line]
