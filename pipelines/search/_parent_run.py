"""The search's own run in MLflow, the parent of its trials' runs: its curve, the winner, its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from infra.mlflow.errors import STORE_ERRORS, reason_of, refuses
from infra.mlflow.pages import picture_of
from infra.mlflow.registry import NoRegistryError, register
from infra.mlflow.tracker import MlflowTracker, Row, close_run, opened_run, run_of
from infra.passwords import masked
from infra.stores.protocol import StoreError
from infra.tracker import now
from pipelines import interrupts
from pipelines.console import number, say
from pipelines.evaluate.export.mlflow_model import write_model
from pipelines.runs import RunFolder, TakenOverError
from pipelines.search._best import BestRun, SearchResult
from pipelines.search._journal import CurvePoint
from pipelines.search._outcome import ranked
from pipelines.search.confirmation.results import ConfirmedTrial
from pipelines.search.trials.context import searched_params
from pipelines.settings import SearchExperiment
from pipelines.tracking.pages import best_metric, data_set, described, note, search_link, view_of_search
from pipelines.tracking.retry import Failure, TrackingRetry, UntrackedNote, print_delivered
from pipelines.tracking.runs import STATUS, State, as_setting, prepare_tracking
from pipelines.tracking.target import flat

DESCRIBED_TRIALS = 10
"""How many trials the search's description lists."""


class ParentRun:
    """The search's run, from its opening to the winner's registration.

    `tags`: those of the runs of all trials too. Raises SettingsError if the tracking store is away or refuses.
    """

    def __init__(self, experiment: SearchExperiment, folder: RunFolder, tags: dict[str, str]) -> None:
        self._experiment, self._folder, self.tags = experiment, folder, {**folder.origin, **tags}
        self._note = UntrackedNote(folder)
        self._was_owed = bool(self._note)
        self._failed: Failure | None = None
        self.uri = experiment.tracking_uri
        fields = searched_params(experiment)
        self._objective = experiment.objective
        view = view_of_search(folder, fields, experiment.budget.eval_every, self._objective)
        self.experiment_id = prepare_tracking(experiment, view)
        self._note.write(self.tags)
        params = experiment.model_dump(mode="json", include={"seed", "data", "budget", "search", "compute"})
        name, identity = folder.path.name, {"ganfleet.id": folder.id}
        families = ", ".join(experiment.entries)
        self._own_tags = {"ganfleet.kind": "search", **self.tags}
        opening = note(folder, f"A search over {families}", tags=self._own_tags)
        own, data = {**opening, **self._own_tags}, data_set(experiment.data, folder)
        with as_setting(self.uri):
            run = opened_run(self.uri, self.experiment_id, identity, name, None, flat(params), own, data)
        self.run_id = str(run.info.run_id)
        self._curve: MlflowTracker | None = None
        self._sent = 0

    def note_failed(self, retry: TrackingRetry) -> None:
        """Remembers that MLflow lacks some of the trials, if an attempt has failed since they ended."""
        self._failed = retry.failure or self._failed

    def add_points(self, points: Sequence[CurvePoint]) -> None:
        """Sends the points of the search's curve that MLflow lacks, and the samples of each new best trial; at step 0,
        those of the first one before it was trained.

        `points`: all of them. The metric `best_fid`, or `best_kid`, marks the steps that are recorded; trials have
        `fid`, against other steps. Raises one of `STORE_ERRORS`.
        """
        if len(points) == self._sent:
            return
        curve = best_metric(self._objective)
        if self._curve is None:
            self._curve = MlflowTracker(self.uri, self.run_id, marker=curve)
        untrained = self._folder.trial(points[0].trial).picture(0)
        if self._curve.last_step < 0 and untrained.is_file():
            self._curve.picture(0, untrained.read_bytes(), self._curve.began)
        for before, point in zip([None, *points], points, strict=False):
            picture = self._folder.trial(point.trial).picture(point.step)
            is_new = before is None or before.trial != point.trial
            if point.ended > self._curve.last_step and is_new and picture.is_file():
                self._curve.picture(point.ended, picture.read_bytes(), point.time)
        self._curve.rows([Row(one.ended, one.time, {curve: one.value, "search/images": one.images}) for one in points])
        self._sent = len(points)

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
        """Closes the run, with the search's files as artifacts.

        `files`: those that were written. The winner is logged only if its settings are among them.
        """
        state: State = "interrupted" if not result.complete else "completed" if result.best else "failed"
        best = result.best if self._folder.best in files else None
        tags = {"ganfleet.state": state, **(best.tags if best else {})}
        tags |= self._description(result, best, state, files)
        artifacts = {str(path.relative_to(self._folder.path)): path for path in [self._folder.experiment, *files]}

        def send() -> None:
            if best is not None:
                self._log_winner(best, result.confirmed)
            close_run(self.uri, self.run_id, STATUS[state], tags, artifacts)

        retry = TrackingRetry()
        if self._failed is None:  # otherwise the trials' runs have used up the final minute
            retry.start_final_minute()
        retry.attempt(send)
        self.note_failed(retry)

    def _description(
        self, result: SearchResult, best: BestRun | None, state: State, files: Sequence[Path]
    ) -> dict[str, str]:
        """Of the search that ended: the value by which its winner won, the winner's samples, the best trials."""
        label = self._objective.label
        headline = f"A search, {state}: no trial has a {label}"
        if best is not None:
            seeds = (
                best.confirmed.summary if best.confirmed else f"{label} {number(best.value)} of one run, not confirmed"
            )
            headline = f"{seeds}: trial {best.trial}, the best of {len(result.outcomes)} ({state})"
        settings = f"{best.settings['name']}: {described(best.settings, 'name')}" if best else ""
        paths = [str(path.relative_to(self._folder.path)) for path in files]
        shown = [picture_of(self.run_id, path) for path in ("best.png", "learned/samples.png") if path in paths]
        also = [] if self._objective.is_fid else ["FID"]
        lines = [["trial", label, *also, "step", "state", "settings"], ["---"] * (5 + len(also))]
        for one in ranked(result.outcomes, self._objective)[:DESCRIBED_TRIALS]:
            fid = [number(one.fid) for _ in also]
            lines.append([one.trial, number(one.value), *fid, str(one.step), one.ending, one.described])
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return note(self._folder, headline, settings, self._own_tags, [*shown[:1], table, *shown[1:]])

    def _log_winner(self, best: BestRun, confirmed: Sequence[ConfirmedTrial]) -> None:
        """Logs the confirmed winner's mean and standard deviation at the number of confirmation runs, with the time of
        the last of their rows.

        The same number of runs is logged once; more runs add a point.
        """
        if best.confirmed is None:
            return
        runs = [self._folder.below("confirm").trial(run.id) for one in confirmed for run in one.runs]
        seen = sum(_images_seen(run) for run in runs)
        time = max((time for run in runs if (time := run.logged_at()) is not None), default=now())
        name, winner = f"confirmed/{self._objective.name}", best.confirmed
        values = {"images_seen": seen, f"{name}_mean": winner.mean, f"{name}_sd": winner.sd}
        metrics = {name: float(value) for name, value in values.items() if value is not None}
        MlflowTracker(self.uri, self.run_id).rows([Row(len(runs), time, metrics)])

    def finish(self, result: SearchResult, console: Console) -> Failure | None:
        """Registers the winner's model. Then MLflow has all of the search, or this returns why it has not."""
        say(console, f"curves    {search_link(self._experiment, self.experiment_id, self._folder)}")
        if self._failed is None:
            self._register_winner(result.best, console)
        if self._failed is not None:
            self._note.write(self.tags, self._failed.reason)
            return self._failed
        self._note.clear()
        if self._was_owed:
            print_delivered(console, self._experiment, self._folder.path.name)
        return None

    def interrupt(self, result: SearchResult) -> None:
        """Nothing is owed of an interrupted search whose runs are all closed, unless nothing is left to play, or this
        machine may lack some of their rows."""
        ended = all(one.ended for one in result.outcomes) and all(one.all_ended for one in result.confirmed)
        if not ended and self._failed is None and not self._experiment.storage.remote:
            self._note.clear()

    def _register_winner(self, best: BestRun | None, console: Console) -> None:
        """Makes the winner's best run the newest version of the model with the search's name, unless it is."""
        if best is None or best.confirmed is None:
            return
        identity = {"ganfleet.id": f"{self._folder.id}/confirm/{best.confirmed.best_run.id}"}
        try:
            run = run_of(self.uri, self.experiment_id, identity)
            if run is None:
                raise NoRegistryError(f"its run is not in tracking.uri={masked(self.uri)}")
            tags = self._model_tags(best.trial, best.confirmed)
            write = partial(self._write_model, best, console)
            made = register(self.uri, self._folder.path.name, run, tags, write)
        except (NoRegistryError, *STORE_ERRORS) as error:
            say(console, f"model     not registered: {reason_of(error)}")
            away = error.away if isinstance(error, NoRegistryError) else not refuses(error)
            if away:
                self._failed = Failure(reason_of(error), refused=False)
            return
        say(console, f"model     {made.model} version {made.version} in MLflow's registry")

    def _write_model(self, best: BestRun, console: Console, into: Path) -> None:
        """Writes the winner's generator as an MLflow model, with its settings and samples."""
        assert best.confirmed is not None
        own = self._folder.below("confirm").trial(best.confirmed.best_run.id)
        about = {"search": self._folder.path.name, **best.about}
        reason = write_model(best.checkpoint, into, about)
        if reason:
            say(console, f"model     as weights only, because torch cannot export its generator: {reason}")
        for source, name in ((own.experiment, "experiment.yaml"), (best.picture, "samples.png")):
            (into / name).write_bytes(source.read_bytes())

    def _model_tags(self, trial: str, winner: ConfirmedTrial) -> dict[str, str]:
        run, name, written = winner.best_run, f"ganfleet.{self._objective.name}", self._objective.written
        assert run.value is not None
        assert winner.mean is not None
        tags = {
            "ganfleet.search": self._folder.path.name,
            "ganfleet.search.id": self._folder.id,
            "ganfleet.trial": trial,
            "ganfleet.seed": str(run.seed),
            name: written(run.value),
            "ganfleet.seeds": ",".join(str(run.seed) for run in winner.runs),
            f"{name}.mean": written(winner.mean),
        }
        if not self._objective.is_fid and run.fid is not None:
            tags["ganfleet.fid"] = f"{run.fid:.4f}"
        return tags if winner.sd is None else {**tags, f"{name}.sd": written(winner.sd)}


def _images_seen(run: RunFolder) -> int:
    """How many real images a run saw; 0 if it failed before it logged any."""
    rows = run.rows()
    return int(rows[-1]["images_seen"]) if rows else 0
