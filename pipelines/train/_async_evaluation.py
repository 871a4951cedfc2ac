"""Evaluation while training continues (`metrics.async=true`): a Ray task measures a copy of the generator.

It is a plain task. Ray Train's own validation returns its results by `ray.train.report`, which is a barrier across all
ranks, and the workers of this project use no such barrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from gan_core.loop import Game
from gan_core.measures import measures_pairs
from gan_core.metrics.scores import scores
from pipelines.code import Code, opened, sealed
from pipelines.data.fetch import worker_data
from pipelines.settings import TrainExperiment
from pipelines.train.play import cached_dataset, cached_reference


@dataclass(frozen=True)
class RemoteEvaluation:
    """An evaluation in a Ray task."""

    task: Any

    def ready(self) -> bool:
        return bool(ray.wait([self.task], timeout=0)[0])

    def result(self) -> dict[str, float]:
        try:
            return ray.get(self.task)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ValueError):  # a StoreError too
                raise error.cause from None
            raise


class AsyncEvaluator:
    """Starts an evaluation in a Ray task, while training continues. Rank 0 has one."""

    def __init__(self, experiment: TrainExperiment, reference: bytes, on_gpu: bool, code: Code | None = None) -> None:
        self._experiment = sealed(experiment, code)
        self._reference = ray.put(reference)
        # Outside of the worker group's placement group, which has no capacity for it.
        outside = PlacementGroupSchedulingStrategy(placement_group=None)  # type: ignore[arg-type]
        resources = {"num_cpus": 1, "num_gpus": 1} if on_gpu else {"num_cpus": 1}
        self._task = ray.remote(_measure).options(**resources, scheduling_strategy=outside)
        self._device = "cuda" if on_gpu else "cpu"

    def begin(self, game: Game) -> RemoteEvaluation:
        """Starts the task with a copy of the averaged generator, which is all it needs of the game."""
        copy = {name: value.detach().cpu() for name, value in game.average.state_dict().items()}
        return RemoteEvaluation(self._task.remote(self._experiment, copy, game.step, self._reference, self._device))


def _measure(
    given: Any, average: dict[str, torch.Tensor], step: int, reference: bytes, device: str
) -> dict[str, float]:
    """`given`: the experiment, which may be sealed."""
    experiment: TrainExperiment = opened(given)
    source = worker_data(experiment.data, experiment.storage)
    dataset = cached_dataset(source)
    game = Game(experiment, dataset.shape, device, dataset.classes)
    game.average.load_state_dict(average)
    game.step = step
    return scores(game, cached_reference(reference, source, device, measures_pairs(experiment.metrics)))
