"""What each rank does: plays rounds, and at the settings' intervals logs, evaluates, pictures and saves.

The same code runs in a Tune actor, in a Ray Train worker of a group, and in a test's own process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from gan_core import checkpoint, data, ranks
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.health.signs import Watch, vitals
from gan_core.loop import DTYPES, DivergedError, Game, rounds
from gan_core.metrics.statistics.reference import Reference
from infra.tracker import FolderTracker, Tracker, Trackers
from pipelines.data.fetch import at_workers_hand
from pipelines.evaluate.pictures import game_picture, png
from pipelines.runs import RunFolder, reached, step_of
from pipelines.settings import TrainExperiment
from pipelines.tracking.target import TrackingTarget
from pipelines.train.events import Evaluator, Event, Inline, Rows

_LOG = logging.getLogger(__name__)


def play(
    experiment: TrainExperiment,
    folder: RunFolder,
    reference: bytes,
    target: TrackingTarget | None,
    device: torch.device | str = "cpu",
    start: Path | None = None,
    beside: Evaluator | None = None,
    constants: Mapping[str, float] | None = None,
) -> Iterator[Event]:
    """Plays the experiment from a checkpoint, or from the start, to the end of its budget.

    Yields each logged step, on every rank; rank 0 alone writes to the folder and to MLflow (none without
    `target`). With `metrics.async` rank 0 gives its evaluations to `beside`, and a step is logged and yielded once
    its own has ended. `constants` are part of each logged row. Raises DivergedError if a loss is not finite.
    """
    torch.manual_seed(experiment.seed)
    device = torch.device(device)
    source = at_workers_hand(experiment.data, experiment.storage)
    dataset = dataset_of(source).to(device, DTYPES[experiment.compute.precision])
    game = Game(experiment, dataset.shape, device, dataset.classes)
    if start is not None:
        checkpoint.load(game, start)
    evaluator = beside if experiment.metrics.beside else Inline(reference_of(reference, source).to(device))
    rows = Rows(_tracker(experiment, folder, target), Watch(game))
    with closing(rows.tracker):
        yield from _kept(folder, _logged(experiment, folder, game, dataset, rows, evaluator, constants or {}))


def _kept(folder: RunFolder, steps: Generator[Event, None, None]) -> Iterator[Event]:
    """Nobody is told of a checkpoint before it is where it is to stay, with all that was logged until then."""
    with closing(steps):
        try:
            for event in steps:
                if event.checkpoint is not None and ranks.rank() == 0:
                    folder.keep(event.step)
                yield event
        except DivergedError:
            if ranks.rank() == 0:
                folder.keep()
            raise


def _logged(
    experiment: TrainExperiment,
    folder: RunFolder,
    game: Game,
    dataset: Dataset,
    rows: Rows,
    evaluator: Evaluator | None,
    constants: Mapping[str, float],
) -> Generator[Event, None, None]:
    """Plays the rounds, and does what is due after each."""
    meter = Meter(game)
    for turn in rounds(game, dataset.images, dataset.labels):
        due = Due.at(turn.step, experiment, game.last_round)
        if not due.anything:
            continue
        try:
            scalars = turn.scalars()
        except DivergedError:  # what was sound until now is still logged
            yield from rows.logged(wait=True)
            raise
        metrics = {
            "images_seen": turn.images_seen,
            **scalars,
            "images_per_second": meter.rate(),
            **vitals(game),
            **constants,
        }
        if due.evaluation:  # one at a time beside training
            yield from rows.logged(wait=True)
        pending = evaluator.begin(game) if due.evaluation and evaluator is not None else None
        if due.evaluation and ranks.rank() == 0:
            rows.tracker.picture(turn.step, _picture(game, dataset))
        saved = None
        if due.checkpoint:  # all rows before it are logged first: whoever goes on from it misses none
            yield from rows.logged(wait=True)
            saved = _save(game, folder)
        rows.add(Event(turn.step, game.last_round, turn.images_seen, metrics, saved), pending)
        yield from rows.logged(wait=False)
        meter.restart()
    yield from rows.logged(wait=True)


def start_of(folder: RunFolder) -> Path | None:
    """The newest whole checkpoint up to which everything was logged: an evaluation beside training ends after it."""
    last = reached(folder)
    known = [path for path in reversed(folder.checkpoints()) if last is None or step_of(path) <= last]
    return next((path for path in known if checkpoint.is_whole(path)), None)


@dataclass(frozen=True)
class Due:
    """What is to be done after a round."""

    log: bool
    evaluation: bool
    checkpoint: bool

    @staticmethod
    def at(step: int, experiment: TrainExperiment, last_step: int) -> Due:
        """By the budget's intervals; everything after the last round."""
        budget, last = experiment.budget, step == last_step
        return Due(
            last or step % budget.log_every == 0,
            last or step % budget.eval_every == 0,
            last or step % budget.checkpoint_every == 0,
        )

    @property
    def anything(self) -> bool:
        """Whether there is something to do."""
        return self.log or self.evaluation or self.checkpoint


class Meter:
    """Images a second of training alone: without evaluation, pictures and saving."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.restart()

    def restart(self) -> None:
        """Begins to count, after whatever else was done."""
        self.began, self.images = time.perf_counter(), self.game.images_seen

    def rate(self) -> float:
        """Images a second since the start; the caller has read the losses, so the device has done its work."""
        return (self.game.images_seen - self.images) / max(time.perf_counter() - self.began, 1e-9)


def _tracker(experiment: TrainExperiment, folder: RunFolder, target: TrackingTarget | None) -> Tracker:
    if ranks.rank() != 0:
        return Trackers([])
    trackers: list[Tracker] = [FolderTracker(folder.path)]
    if target is not None:
        trackers.append(target.follower(experiment, folder))
    return Trackers(trackers)


def _save(game: Game, folder: RunFolder) -> str:
    path = folder.checkpoint(game.step)
    if ranks.rank() == 0:
        checkpoint.save(game, path)
    return str(path)


def _picture(game: Game, dataset: Dataset) -> bytes:
    return png(game_picture(game, dataset))


@lru_cache(maxsize=2)
def dataset_of(settings: Data) -> Dataset:
    """The train set, which is at hand; a process plays many trials on one."""
    return data.load(settings)


@lru_cache(maxsize=2)
def reference_of(content: bytes, settings: Data) -> Reference:
    """The reference; its covariance's root is computed once a process."""
    return Reference.from_bytes(content, dataset_of(settings))
