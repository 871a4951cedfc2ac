"""What each rank does: it plays rounds and, at the settings' intervals, logs, evaluates, draws samples and saves.

The same code runs in a Tune actor, in a worker of a group, and in the process of a test.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from gan_core import checkpoint, data, ranks
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.health.divergence import DivergedError, check_finite
from gan_core.health.signs import SignDetector, health_metrics
from gan_core.loop import DTYPES, Game, rounds
from gan_core.measures import measures_pairs
from gan_core.metrics.statistics.reference import Reference, check_content
from gan_core.settings import SettingsError
from infra.tracker import FolderTracker, Tracker, Trackers
from pipelines.data.fetch import worker_data
from pipelines.evaluate.pictures import game_picture, png
from pipelines.runs import RunFolder, last_resumable_step, step_of
from pipelines.settings import TrainExperiment
from pipelines.tracking.target import TrackingTarget
from pipelines.train.logged_steps import Evaluator, InlineEvaluator, LoggedStep, LoggedSteps


def play(
    experiment: TrainExperiment,
    folder: RunFolder,
    reference: bytes,
    target: TrackingTarget | None,
    device: torch.device | str = "cpu",
    start: Path | None = None,
    async_evaluator: Evaluator | None = None,
    constants: Mapping[str, float] | None = None,
) -> Generator[LoggedStep, None, None]:
    """Plays the experiment from the checkpoint `start`, or from its first round, to the end of its budget.

    Every rank yields each logged step. Rank 0 alone writes to the folder and to MLflow (to none without `target`). With
    `metrics.async` rank 0 evaluates with `async_evaluator`, and a step is logged and yielded when its evaluation has
    ended. `constants` are part of each logged row. Raises DivergedError if a number of the game is not finite, and
    SettingsError if the data are others than the driver's.
    """
    torch.manual_seed(experiment.seed)
    device = torch.device(device)
    source = worker_data(experiment.data, experiment.storage)
    dataset = _dataset_of_driver(source, reference).to(device, DTYPES[experiment.compute.precision])
    game = Game(experiment, dataset.shape, device, dataset.classes, dataset.class_names)
    if start is not None:
        checkpoint.load(game, start)
    elif experiment.reliability.on_divergence == "rollback" and ranks.rank() == 0:
        checkpoint.save(game, folder.checkpoint(0))  # so that there is one to go back to
        folder.save(0)
    evaluator = async_evaluator
    if not experiment.metrics.asynchronous:
        with_features = measures_pairs(experiment.metrics) and ranks.rank() == 0
        evaluator = InlineEvaluator(cached_reference(reference, _images_of(source), str(device), with_features))
    logged_steps = LoggedSteps(_tracker(experiment, folder, target), SignDetector(game))
    with closing(logged_steps.tracker):
        if game.step == 0 and ranks.rank() == 0:
            logged_steps.tracker.picture(0, png(game_picture(game, dataset)))
        steps = _play_rounds(experiment, folder, game, dataset, logged_steps, evaluator, constants or {})
        yield from _save_before_yield(folder, steps)


def _save_before_yield(
    folder: RunFolder, steps: Generator[LoggedStep, None, None]
) -> Generator[LoggedStep, None, None]:
    """Saves the folder before it yields a step with a checkpoint. Whoever gets the step then finds the checkpoint, and
    all rows until it, where the folder is kept."""
    with closing(steps):
        try:
            for logged in steps:
                if logged.checkpoint is not None and ranks.rank() == 0:
                    folder.save(logged.step)
                yield logged
        except DivergedError as error:
            if ranks.rank() == 0:
                folder.save()
                last = resume_checkpoint(folder)
                error.checkpoint = None if last is None else folder.shown(last)
            raise


def _play_rounds(
    experiment: TrainExperiment,
    folder: RunFolder,
    game: Game,
    dataset: Dataset,
    logged_steps: LoggedSteps,
    evaluator: Evaluator | None,
    constants: Mapping[str, float],
) -> Generator[LoggedStep, None, None]:
    """Plays the rounds. After each it logs, evaluates and saves, whichever is due."""
    meter = SpeedMeter(game)
    for played in rounds(game, dataset.images, dataset.labels):
        due = DueActions.at(played.step, experiment, game.last_round)
        if not due.any:
            continue
        try:
            metrics = {
                "images_seen": played.images_seen,
                **played.scalars(),
                "images_per_second": meter.rate(),
                **health_metrics(game),
                **({"rollbacks": game.rollbacks} if game.rollbacks else {}),
                **constants,
            }
            check_finite(metrics, played.step)
        except DivergedError:  # the steps before this one are still logged
            yield from logged_steps.log(wait=True)
            raise
        if due.evaluation:  # at most one asynchronous evaluation at a time
            yield from logged_steps.log(wait=True)
        evaluation = evaluator.begin(game) if due.evaluation and evaluator is not None else None
        if due.evaluation and ranks.rank() == 0:
            logged_steps.tracker.picture(played.step, png(game_picture(game, dataset)))
        saved = None
        if due.checkpoint:  # all earlier rows are logged first, so that a run resumed from it misses none
            yield from logged_steps.log(wait=True)
            saved = str(folder.checkpoint(game.step))
            if ranks.rank() == 0:
                checkpoint.save(game, Path(saved))
        logged_steps.add(LoggedStep(played.step, game.last_round, played.images_seen, metrics, saved), evaluation)
        yield from logged_steps.log(wait=False)
        meter.restart()
    yield from logged_steps.log(wait=True)


def resume_checkpoint(folder: RunFolder) -> Path | None:
    """The newest whole checkpoint whose steps are all logged. With an asynchronous evaluation a newer checkpoint can
    exist whose steps are not."""
    last = last_resumable_step(folder)
    known = [path for path in reversed(folder.checkpoints()) if last is None or step_of(path) <= last]
    return next((path for path in known if checkpoint.is_whole(path)), None)


@dataclass(frozen=True)
class DueActions:
    """What has to be done after a round."""

    log: bool
    evaluation: bool
    checkpoint: bool

    @staticmethod
    def at(step: int, experiment: TrainExperiment, last_step: int) -> DueActions:
        """Follows the intervals of the budget. After the last round everything is due."""
        budget, last = experiment.budget, step == last_step
        return DueActions(
            last or step % budget.log_every == 0,
            last or step % budget.eval_every == 0,
            last or step % budget.checkpoint_every == 0,
        )

    @property
    def any(self) -> bool:
        """Whether anything is due."""
        return self.log or self.evaluation or self.checkpoint


class SpeedMeter:
    """Images a second of training alone, without evaluations, pictures and checkpoints."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.restart()

    def restart(self) -> None:
        """Starts to count here."""
        self.began, self.images = time.perf_counter(), self.game.images_seen

    def rate(self) -> float:
        """Images a second since the last restart. The caller has read the losses, so the device has finished."""
        return (self.game.images_seen - self.images) / max(time.perf_counter() - self.began, 1e-9)


def _tracker(experiment: TrainExperiment, folder: RunFolder, target: TrackingTarget | None) -> Tracker:
    if ranks.rank() != 0:
        return Trackers([])
    trackers: list[Tracker] = [FolderTracker(folder.path)]
    if target is not None:
        trackers.append(target.follower(experiment, folder))
    return Trackers(trackers)


@lru_cache(maxsize=2)
def cached_dataset(settings: Data) -> Dataset:
    """The train set, loaded once in a process, which may play many trials. The data is on this machine."""
    return data.load(settings)


def _images_of(settings: Data) -> Data:
    """The settings without what changes no image, so that trials of different batches share what is cached."""
    return settings.model_copy(update={"batch_size": 2, "flip": False})


def _dataset_of_driver(settings: Data, reference: bytes) -> Dataset:
    """The train set that the driver has. Raises SettingsError if this process has none but others."""
    settings = _images_of(settings)
    try:
        check_content(reference, cached_dataset(settings))
    except SettingsError:  # this process may have loaded it before the files changed and a new run began
        cached_dataset.cache_clear()
        check_content(reference, cached_dataset(settings))
    return cached_dataset(settings)


@lru_cache(maxsize=2)
def cached_reference(content: bytes, settings: Data, device: str, with_features: bool) -> Reference:
    """The reference statistics on a device. The root of their covariance is computed once in a process, and so are the
    features of single real images, for measures of pairs."""
    found = Reference.from_bytes(content, cached_dataset(settings)).to(device)
    return found.with_features() if with_features else found
