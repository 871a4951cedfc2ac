"""Follows a search from its driver: its rows on the screen, the end of each trial's run in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from infra.stores.protocol import StoreError
from pipelines.runs import Pointer
from pipelines.search._budget import SearchBudget
from pipelines.search._curve import Curve
from pipelines.search._journal import BUDGET, Journal, Record
from pipelines.search._outcome import Outcome, outcome_of
from pipelines.search.report.live_table import SearchView
from pipelines.search.trials.context import SearchContext
from pipelines.settings import SearchExperiment
from pipelines.tracking.retry import TrackingRetry, UntrackedNote
from pipelines.tracking.runs import State, catch_up, close


class SearchMonitor:
    """What the driver knows of the trials, by the journal."""

    def __init__(
        self,
        context: SearchContext,
        journal: Journal,
        budget: SearchBudget,
        view: SearchView,
        curve: Curve | None = None,
    ) -> None:
        self.context, self.journal, self.budget, self.view = context, journal, budget, view
        self._curve, self._retry = curve, TrackingRetry()
        self.trials: Sequence[Any] = ()
        """Tune's own, of this process."""
        self.running: set[str] = set()
        view.restore([self.outcome(trial) for trial in journal.records])

    def outcome(self, trial: str) -> Outcome:
        """How a trial stands."""
        now = outcome_of(self.journal.records[trial], longest(self.context.experiment), self.context.folder)
        return replace(now, state="running") if trial in self.running and not now.ended else now

    def show(self, trial: str) -> None:
        """Brings a trial's row up to date."""
        self.view.update(self.outcome(trial))

    def start(self, trial: Any) -> None:
        """A trial of Tune's begins, or goes on: under population-based training perhaps as another."""
        record = self.journal.records[trial.trial_id]
        if trial.config != record.config:
            self.journal.exploit(record.trial, trial.config, vars(_pointer(trial)))
        self.running.add(record.trial)
        self.show(record.trial)

    def ended(self, trial: str) -> None:
        """Tune has ended a trial. If its store is away the rest is left to `settle`: Tune would take the error for one
        of the trial."""
        with suppress(StoreError):
            self.finish(trial)

    def finish(self, trial: str) -> None:
        """Ends a trial's run in MLflow, with its final checkpoint."""
        self.running.discard(trial)
        now, record = self.outcome(trial), self.journal.records[trial]
        self.view.update(now)
        folder = self.context.folder.trial(trial)
        folder.bring(now.step or None)
        closed = not folder.experiment.is_file() or self._retry.attempt(lambda: self._close(record, now))
        if now.ended:
            folder.discard_after(now.step)  # a group of workers runs ahead of what it reports
            if self.context.experiment.search.scheduler != "pbt":  # else others may still want its weights
                folder.prune(keep=1)
            if closed:
                self.journal.closed(trial)
        if now.ended and self._curve is not None:
            self._draw(self._curve)

    def _draw(self, curve: Curve) -> None:
        outcomes, images = [self.outcome(trial) for trial in self.journal.records], self.journal.images
        self._retry.attempt(lambda: curve.tell(outcomes, images))

    def _close(self, record: Record, now: Outcome) -> None:
        folder, experiment = self.context.folder.trial(record.trial), self.context.experiment
        state: State = now.state if now.ended else "interrupted"  # type: ignore[assignment]
        settings = experiment.trial(record.config["settings"], record.config.get("seed"))
        close(self.context.target(record.trial), settings, folder, state, now.checkpoint, now.reason)

    def settle(self) -> list[Outcome]:
        """Ends the runs that are still open in MLflow, whoever left them so. Returns how each trial stands.

        A trial that has not ended is interrupted, and will go on; when the budget is spent it is stopped. What MLflow
        lacks, because it is away, is noted.
        """
        self.running.clear()
        self._retry.start_final_minute()
        outcomes = []
        for record in list(self.journal.records.values()):
            if not record.ended and self.budget.spent():
                self.journal.end(record.trial, "stopped", BUDGET)
            folder = self.context.folder.trial(record.trial)
            if not self.journal.records[record.trial].closed:
                self.finish(record.trial)
            else:
                folder.bring()
                if self.context.experiment.compute.workers > 1:
                    self._catch_up(record.trial)
            now = self.outcome(record.trial)
            if now.ended:
                folder.prune(keep=1)
            outcomes.append(now if now.ended else replace(now, state="interrupted"))
        self._note_owed()
        return outcomes

    def _catch_up(self, trial: str) -> None:
        folder = self.context.folder.trial(trial)
        self._retry.attempt(lambda: catch_up(self.context.target(trial), folder))

    def _note_owed(self) -> None:
        untracked = UntrackedNote(self.context.folder)
        if any(record.ended and not record.closed for record in self.journal.records.values()):
            untracked.write(self._retry.error)
        else:
            untracked.clear()

    def whole(self, names: Sequence[str]) -> bool:
        """Whether all trials of these names have ended, or, once the budget is spent, those of them that began."""
        known = [self.journal.records[name] for name in names if name in self.journal.records]
        return all(record.ended for record in known) and (len(known) == len(names) or self.budget.spent())


def _pointer(trial: Any) -> Pointer:
    """What a trial of Tune's goes on from."""
    with trial.checkpoint.as_directory() as folder:
        return Pointer.read(Path(folder))


class TuneCallbacks(tune.Callback):
    """What Tune calls. Tune pickles it; the watch of this process is not."""

    watch: ClassVar[SearchMonitor]

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.watch.trials = trials
        self.watch.journal.tick()
        self.watch.view.tick(self.watch.journal.images, self.watch.journal.seconds)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.watch.show(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.ended(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.ended(trial.trial_id)


class SpentBudget(tune.Stopper):
    """Stops trials at their next evaluation once the budget is spent; those that are paused, once none runs."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        spent = TuneCallbacks.watch.budget.spent()
        if spent and not result.get("done"):
            TuneCallbacks.watch.budget.stopped.add(trial_id)
        return spent

    def stop_all(self) -> bool:
        watch = TuneCallbacks.watch
        return watch.budget.spent() and all(trial.status != "RUNNING" for trial in watch.trials)


def longest(experiment: SearchExperiment) -> int:
    """The generator update at which the longest trial's budget ends (one critic step a round)."""
    return experiment.budget.last_round(experiment.data.batch_size)
