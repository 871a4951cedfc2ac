"""The driver's view of the trials: the table on the screen, budgets, the end of each trial's run in MLflow."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from infra.stores.protocol import StoreError
from pipelines.runs import Pointer, Watch
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import BUDGET, Journal, Record
from pipelines.search._outcome import Outcome, outcome_of
from pipelines.search._parent_run import ParentRun
from pipelines.search.plots.draw import draw_contact_sheet
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials.context import SearchContext
from pipelines.tracking.retry import TrackingRetry
from pipelines.tracking.runs import State, catch_up, close

SHEET_SECONDS = 60.0
"""While a search runs, its contact sheet is at most so old when a trial ends."""


class SearchMonitor:
    """Follows the trials by the journal.

    `parent`: the search's run, None if MLflow does not matter. `curve`: whether these are the search's own trials, of
    which there are a curve and a contact sheet. `watch`: gets each row of the trials.
    """

    def __init__(
        self,
        context: SearchContext,
        journal: Journal,
        budget: SearchBudget,
        view: SearchView,
        parent: ParentRun | None = None,
        curve: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.context, self.journal, self.budget, self.view = context, journal, budget, view
        self._parent, self._curve, self._retry = parent, curve, TrackingRetry()
        self._drawn = -math.inf
        self._watch, self._watched = watch, dict.fromkeys(journal.records, -1)
        self.trials: Sequence[Any] = ()
        """Tune's trials in this process."""
        self.running: set[str] = set()
        view.restore([self.outcome(trial) for trial in journal.records])

    def outcome(self, trial: str) -> Outcome:
        """The state of a trial."""
        experiment = self.context.experiment
        longest = experiment.budget.last_round(experiment.batches[0])
        now = outcome_of(self.journal.records[trial], longest, self.context.folder, experiment.objective)
        return replace(now, state="running") if trial in self.running and not now.ended else now

    def show(self, trial: str) -> None:
        """Updates a trial's row on the screen."""
        self.view.update(self.outcome(trial))

    def evaluated(self, trial: str) -> None:
        """A trial was evaluated."""
        self.show(trial)
        self._pass_on(trial)

    def _pass_on(self, trial: str) -> None:
        """Passes on the rows that were logged since its last evaluation to who watches."""
        now = self.outcome(trial)
        if self._watch is None or not now.step:
            return
        folder, last = self.context.folder.trial(trial), self._watched.get(trial, 0)
        with suppress(StoreError, OSError):
            folder.refresh_file(folder.metrics)
            for row in folder.rows():
                if last < row["step"] <= now.step:
                    saved = folder.checkpoint(now.step) if row["step"] == now.step else None
                    self._watch(folder, row, saved)
        self._watched[trial] = now.step

    def trial_started(self, trial: Any) -> None:
        """A Tune trial starts or resumes. Population-based training may have given it other settings and weights."""
        record = self.journal.records[trial.trial_id]
        if trial.config != record.config:
            self.journal.exploit(record.trial, trial.config, vars(_pointer(trial)))
        self.running.add(record.trial)
        if self.view.waiting:
            self.view.wait_for("the first evaluation")
        self.show(record.trial)

    def trial_ended(self, trial: str) -> None:
        """Tune has ended a trial. If its store is unavailable, `close_runs` does the rest later: Tune would take the
        error for a failure of the trial."""
        self._pass_on(trial)
        with suppress(StoreError):
            self._close_run(trial)
        if self._curve and time.monotonic() - self._drawn > SHEET_SECONDS:
            known = [self.outcome(one) for one in self.journal.records]
            draw_contact_sheet(self.context.folder, self.context.experiment, known)
            self._drawn = time.monotonic()

    def _close_run(self, trial: str) -> None:
        """Ends a trial's run in MLflow, with its final checkpoint, and deletes what is no longer needed."""
        self.running.discard(trial)
        now, record = self.outcome(trial), self.journal.records[trial]
        self.view.update(now)
        folder = self.context.folder.trial(trial)
        folder.refresh(now.step or None)
        closed = not folder.experiment.is_file() or self._retry.attempt(lambda: self._send_end(record, now))
        if now.ended:
            folder.discard_after(now.step)  # a worker group trains on after its last report
            if self.context.experiment.search.scheduler != "pbt":  # another trial may still take its weights
                folder.prune(keep=1)
            if closed:
                self.journal.closed(trial)
        if now.ended:
            self._send_curve()

    def _send_curve(self) -> None:
        if self._parent is not None and self._curve:
            self._retry.attempt(partial(self._parent.add_points, self.journal.curve))

    def _send_end(self, record: Record, now: Outcome) -> None:
        folder, experiment = self.context.folder.trial(record.trial), self.context.experiment
        state: State = now.state if now.ended else "interrupted"  # type: ignore[assignment]
        settings = experiment.trial(record.config["settings"], record.config.get("seed"))
        close(self.context.target(record.trial), settings, folder, state, now.checkpoint, now.reason)

    def close_runs(self) -> list[Outcome]:
        """Ends all runs that are still open in MLflow, those of earlier drivers too. Returns the state of each trial.

        A trial that has not ended is interrupted and can be resumed; once the budget is spent it is stopped. The
        search's run is told if MLflow lacks something then.
        """
        self.running.clear()
        self._retry.start_final_minute()
        outcomes = []
        for record in list(self.journal.records.values()):
            if not record.ended and self.budget.spent():
                self.journal.end(record.trial, "stopped", BUDGET)
            folder = self.context.folder.trial(record.trial)
            if not self.journal.records[record.trial].closed:
                self._close_run(record.trial)
            else:
                folder.refresh()
                if self.context.experiment.compute.workers > 1:
                    self._retry.attempt(partial(catch_up, self.context.target(record.trial), folder))
            now = self.outcome(record.trial)
            if now.ended:
                folder.prune(keep=1)
            outcomes.append(now if now.ended else replace(now, state="interrupted"))
        self._send_curve()
        if self._parent is not None:
            self._parent.note_failed(self._retry)
        return outcomes

    def all_ended(self, names: Sequence[str]) -> bool:
        """Whether all trials of these names have ended. Once the budget is spent, those that never started count as
        ended."""
        known = [self.journal.records[name] for name in names if name in self.journal.records]
        return all(record.ended for record in known) and (len(known) == len(names) or self.budget.spent())


def _pointer(trial: Any) -> Pointer:
    """Where a Tune trial resumes from."""
    with trial.checkpoint.as_directory() as folder:
        return Pointer.read(Path(folder))


class TuneCallbacks(tune.Callback):
    """Passes Tune's calls to the monitor of this process, which is a class variable because Tune pickles callbacks."""

    monitor: ClassVar[SearchMonitor]
    sigint_handler: ClassVar[Any] = None
    """Tune's own, while trials are played. Once it has heard Ctrl-C, Tune restores the handler before."""

    def setup(self, *args: Any, **info: Any) -> None:
        TuneCallbacks.sigint_handler = signal.getsignal(signal.SIGINT)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.monitor.trials = trials
        self.monitor.journal.tick()
        self.monitor.view.tick(self.monitor.journal.images, self.monitor.journal.seconds)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.monitor.trial_started(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.monitor.evaluated(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.monitor.trial_ended(trial.trial_id)

    on_trial_error = on_trial_complete

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Tune now reads a table of each trial's results, and would warn of each that is missing. The journal has the
        results, so the tables are empty."""
        for trial in trials:
            files, folder = trial.storage.storage_filesystem, trial.storage.trial_fs_path
            with suppress(OSError):
                files.create_dir(folder)
                files.open_output_stream(f"{folder}/result.json").close()


class SpentBudget(tune.Stopper):
    """Once the budget is spent, stops running trials at their next evaluation, and paused ones when none runs."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        budget = TuneCallbacks.monitor.budget
        spent = budget.spent()
        if spent and not result.get("done"):
            budget.stopped.add(trial_id)
        return spent

    def stop_all(self) -> bool:
        monitor = TuneCallbacks.monitor
        return monitor.budget.spent() and all(trial.status != "RUNNING" for trial in monitor.trials)
