"""Evaluation beside training (`metrics.async=true`): copies of the generator are measured in a Ray task of their own.

A plain task rather than Ray Train's validation, whose results come with `ray.train.report`, a barrier across all
ranks that this project's workers do without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from gan_core.loop import Game
from gan_core.metrics.scores import scores
from infra.stores.protocol import StoreError
from pipelines.data.fetch import at_workers_hand
from pipelines.settings import TrainExperiment
from pipelines.train.play import dataset_of, reference_of


@dataclass(frozen=True)
class Measured:
    """A task under way."""

    task: Any

    def ready(self) -> bool:
        """Whether it has ended."""
        return bool(ray.wait([self.task], timeout=0)[0])

    def result(self) -> dict[str, float]:
        """Waits for its metrics. Raises ValueError if a feature is not finite."""
        try:
            return ray.get(self.task)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, StoreError):
                raise error.cause from None
            if isinstance(error.cause, ValueError):
                raise ValueError(str(error.cause)) from None
            raise


class BesideTraining:
    """Rank 0's: begins an evaluation and lets training go on."""

    def __init__(self, experiment: TrainExperiment, reference: bytes, on_gpu: bool) -> None:
        self._experiment = experiment
        self._reference = ray.put(reference)
        # Outside of the workers' own placement group, which has no room for it.
        apart = PlacementGroupSchedulingStrategy(placement_group=None)  # type: ignore[arg-type]
        room = {"num_cpus": 1, "num_gpus": 1} if on_gpu else {"num_cpus": 1}
        self._task = ray.remote(_measure).options(**room, scheduling_strategy=apart)
        self._device = "cuda" if on_gpu else "cpu"

    def begin(self, game: Game) -> Measured:
        """Copies the generator's average; the rest of the game is not needed to measure it."""
        copy = {name: value.detach().cpu() for name, value in game.average.state_dict().items()}
        return Measured(self._task.remote(self._experiment, copy, game.step, self._reference, self._device))


def _measure(
    experiment: TrainExperiment, average: dict[str, torch.Tensor], step: int, reference: bytes, device: str
) -> dict[str, float]:
    source = at_workers_hand(experiment.data, experiment.storage)
    dataset = dataset_of(source)
    game = Game(experiment, dataset.shape, device, dataset.classes)
    game.average.load_state_dict(average)
    game.step = step
    return scores(game, reference_of(reference, source).to(device))
