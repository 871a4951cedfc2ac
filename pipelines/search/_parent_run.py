"""The search's own run in MLflow, the parent of its trials' runs: its curve, the winner, its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from infra.mlflow.registry import NoRegistryError, register
from infra.mlflow.store import UNAVAILABLE
from infra.mlflow.tracker import MlflowTracker, close_run, opened_run, run_of, version_tags
from infra.stores.protocol import StoreError
from pipelines import interrupts
from pipelines.console import say
from pipelines.runs import RunFolder, TakenOverError
from pipelines.search._best import BestRun, SearchResult
from pipelines.search._outcome import Outcome, best_of
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.settings import SearchExperiment
from pipelines.tracking.retry import TrackingRetry, UntrackedNote, print_caught_up, print_untracked
from pipelines.tracking.runs import STATUS, State, prepare_tracking
from pipelines.tracking.target import flat


class ParentRun:
    """The search's run, from its opening to the winner's registration.

    `tags`: those of the reference statistics. Raises SettingsError if the tracking store is unavailable.
    """

    def __init__(self, experiment: SearchExperiment, folder: RunFolder, tags: dict[str, str]) -> None:
        self._experiment, self._folder = experiment, folder
        self._was_incomplete = self.incomplete
        self.uri = experiment.tracking_uri
        self.experiment_id = prepare_tracking(experiment)
        self.tags = {**version_tags(), **tags}
        """Shared by the runs of all trials."""
        params = experiment.model_dump(mode="json", include={"seed", "data", "budget", "search", "compute"})
        name, identity = folder.path.name, {"ganfleet.id": folder.id}
        own = {"ganfleet.kind": "search", **self.tags}
        run = opened_run(self.uri, self.experiment_id, identity, name, None, flat(params), own)
        self.run_id = str(run.info.run_id)
        self._curve: MlflowTracker | None = None
        self._shown = ""

    @property
    def incomplete(self) -> bool:
        """Whether MLflow lacks some of the search, or of its confirmation."""
        return bool(UntrackedNote(self._folder)) or bool(UntrackedNote(self._folder.below("confirm")))

    def add_point(self, outcomes: Sequence[Outcome], images: int) -> None:
        """Logs the best FID so far at the number of trials that have ended, and the samples of a new best trial.

        The metric `fid` marks the steps that are recorded: a point that is logged already is skipped. `images`: real
        images that all trials have seen. Raises one of `UNAVAILABLE` if the store is unavailable.
        """
        ended = [one for one in outcomes if one.ended]
        best = best_of(ended)
        if best is None or best.fid is None:
            return
        if self._curve is None:
            self._curve = MlflowTracker(self.uri, self.run_id, marker="fid")
        if len(ended) <= self._curve.last_step:
            return
        picture = self._folder.trial(best.trial).picture(best.step)
        if best.trial != self._shown and picture.is_file():
            self._curve.picture(len(ended), picture.read_bytes())
        self._curve.metrics(len(ended), {"fid": best.fid, "search/images": images})
        self._shown = best.trial

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Closes the run as failed or interrupted if an error ends the search.

        It stays open if another driver has taken over the search: that driver uses the run.
        """
        try:
            yield
        except TakenOverError:
            raise
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | StoreError) or interrupts.stop_requested.is_set()
            state: State = "interrupted" if stopped else "failed"
            TrackingRetry().attempt(
                lambda: close_run(self.uri, self.run_id, STATUS[state], {"ganfleet.state": state}, {})
            )
            raise

    def close(self, result: SearchResult, files: Sequence[Path]) -> None:
        """Closes the run, with the search's files as artifacts. Notes in the search's folder if MLflow did not get it.

        `files`: those that were written. The winner is logged only if its settings are among them.
        """
        state: State = "interrupted" if not result.complete else "completed" if result.best else "failed"
        best = result.best if self._folder.best in files else None
        tags = {"ganfleet.state": state, **(best.tags if best else {})}
        artifacts = {str(path.relative_to(self._folder.path)): path for path in [self._folder.experiment, *files]}

        def send() -> None:
            if best is not None:
                self._log_winner(best, result.confirmed)
            close_run(self.uri, self.run_id, STATUS[state], tags, artifacts)

        retry = TrackingRetry()
        if not self.incomplete:  # otherwise the trials' runs have used up the final minute
            retry.start_final_minute()
        if not retry.attempt(send):
            UntrackedNote(self._folder).write(retry.error)

    def _log_winner(self, best: BestRun, confirmed: Sequence[ConfirmedTrial]) -> None:
        """Logs the confirmed winner's mean and standard deviation at the number of confirmation runs.

        The same number of runs is logged once; more runs add a point.
        """
        if best.confirmed is None:
            return
        runs = [run.id for one in confirmed for run in one.runs]
        seen = sum(_images_seen(self._folder.below("confirm").trial(run)) for run in runs)
        values = {"images_seen": seen, "confirmed/fid_mean": best.confirmed.mean, "confirmed/fid_sd": best.confirmed.sd}
        metrics = {name: float(value) for name, value in values.items() if value is not None}
        MlflowTracker(self.uri, self.run_id).metrics(len(runs), metrics)

    def finish(self, result: SearchResult, console: Console) -> None:
        """Registers the winner's model. If MLflow lacks some of the search, prints the command that sends it."""
        if self.incomplete:
            print_untracked(console, self._experiment, "search", self._folder.path.name)
            return
        self._register_winner(result.best, console)
        if self._was_incomplete:
            print_caught_up(console, self._experiment, self._folder.path.name)

    def _register_winner(self, best: BestRun | None, console: Console) -> None:
        """Makes the winner's typical run the newest version of the model with the search's name, unless it is."""
        if best is None or best.confirmed is None:
            return
        identity = {"ganfleet.id": f"{self._folder.id}/confirm/{best.confirmed.typical.id}"}
        try:
            run = run_of(self.uri, self.experiment_id, identity)
        except UNAVAILABLE as error:
            say(console, f"model     not registered: {' '.join(str(error).split())[:200]}")
            return
        if run is None:
            say(console, f"model     not registered: its run is not in tracking.uri={self.uri}")
            return
        try:
            made = register(self.uri, self._folder.path.name, run, self._model_tags(best.trial, best.confirmed))
        except NoRegistryError as error:
            say(console, f"model     not registered: {error}")
            return
        say(console, f"model     {made.model} version {made.version} in MLflow's registry")

    def _model_tags(self, trial: str, winner: ConfirmedTrial) -> dict[str, str]:
        tags = {
            "ganfleet.search": self._folder.path.name,
            "ganfleet.search.id": self._folder.id,
            "ganfleet.trial": trial,
            "ganfleet.seed": str(winner.typical.seed),
            "ganfleet.seeds": ",".join(str(run.seed) for run in winner.runs),
            "ganfleet.fid.mean": f"{winner.mean:.4f}",
        }
        return tags if winner.sd is None else {**tags, "ganfleet.fid.sd": f"{winner.sd:.4f}"}


def _images_seen(run: RunFolder) -> int:
    """How many real images a run saw; 0 if it failed before it logged any."""
    rows = run.rows()
    return int(rows[-1]["images_seen"]) if rows else 0
