"""A group of Ray Train workers that plays one experiment; its events come back through a queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from gan_core.loop import DivergedError
from infra.stores.protocol import StoreError
from pipelines.runs import RunFolder, full_disk_told
from pipelines.settings import Shares, TrainExperiment
from pipelines.tracking.target import TrackingTarget
from pipelines.train._async_evaluation import BesideTraining
from pipelines.train.events import Event
from pipelines.train.play import play, start_of

GROUP_RESTARTS = 3
_POLL_SECONDS = 0.5
_START_SECONDS = 60.0
_ABORT_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """What every worker of a group is given."""

    experiment: TrainExperiment
    folder: RunFolder
    reference: bytes
    target: TrackingTarget
    shares: Shares
    constants: dict[str, float] = field(default_factory=dict)
    """Part of each logged row."""


class GroupError(RuntimeError):
    """The workers failed more often than they may be restarted."""


def run_group(job: Job) -> Iterator[Event]:
    """Plays a job on `compute.workers` workers, from its folder's newest checkpoint; yields rank 0's events.

    A lost worker restarts the group from there, with fewer if `compute.min_workers` has it so. Raises DivergedError or
    GroupError, and StoreError if what was played cannot be kept.
    """
    import ray
    from ray.actor import ActorHandle
    from ray.util.queue import Empty, Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    with job.folder.sole_writer():
        pass  # from now on all ranks see the same checkpoints
    # On the driver's own node: another one may be lost, and the queue with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(maxsize=1, actor_options={"num_cpus": 0, "scheduling_strategy": here})
    failure: list[BaseException] = []
    controller: ActorHandle | None = None
    trainer = _trainer(job, queue)

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fit, daemon=True, name="ray-train")
    thread.start()
    try:
        while True:
            running = thread.is_alive()
            try:
                item = queue.get(timeout=_POLL_SECONDS)
            except Empty:
                if not running:
                    break
                continue
            if isinstance(item, ActorHandle):
                controller = item
                continue
            if isinstance(item, DivergedError | StoreError):
                raise item
            yield item
    finally:
        _end(thread, controller, queue)
    if failure:
        raise GroupError(str(failure[0]).strip().splitlines()[-1]) from failure[0]


def _end(thread: threading.Thread, controller: Any, queue: Any) -> None:
    """Ends what still runs. A thread that waited for Ray's controller while Ray is shut down would end the process by a
    segmentation fault, so the controller goes first; one that is starting is waited for."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.queue import Empty

    deadline = time.monotonic() + _START_SECONDS
    with suppress(RayError):  # of a queue that is lost
        while thread.is_alive() and controller is None and time.monotonic() < deadline:
            with suppress(Empty):
                first = queue.get(timeout=_POLL_SECONDS)
                controller = first if isinstance(first, ray.actor.ActorHandle) else None
    if thread.is_alive() and controller is not None:
        with suppress(RayError, GetTimeoutError):
            ray.get(controller.abort.remote(), timeout=_ABORT_SECONDS)
        ray.kill(controller)
        thread.join(_ABORT_SECONDS)
    with suppress(Exception):
        queue.shutdown(force=True)


def _trainer(job: Job, queue: Any) -> Any:
    """One worker needs no process group, so no backend."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from infra.ray_private import DataParallelTrainer
    from pipelines.train._controller import Introduced

    workers, fewest = job.experiment.compute.workers, job.experiment.compute.fewest
    count: Any = workers if fewest == workers else (fewest, workers)  # Ray's hints are those of Train's V1
    introduced: Any = Introduced(queue)
    trainer = TorchTrainer if workers > 1 else DataParallelTrainer
    resources = {"CPU": job.shares.cpus_per_worker, **({"GPU": job.shares.gpus} if job.shares.use_gpu else {})}
    return trainer(
        _work,
        train_loop_config={"job": job, "queue": queue},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=job.shares.use_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=f"start-{time.time_ns()}",
            **job.folder.of_ray("ray", job.shares.nodes),
            failure_config=FailureConfig(max_failures=GROUP_RESTARTS),
            callbacks=[introduced],
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """One worker: its rank's part of the game."""
    import ray.train

    job, queue = config["job"], config["queue"]
    rank = ray.train.get_context().get_world_rank()
    device = "cuda" if job.shares.use_gpu else "cpu"
    beside = None
    if job.experiment.metrics.beside and rank == 0:
        beside = BesideTraining(job.experiment, job.reference, job.shares.evaluate_on_gpu)
    try:
        with full_disk_told(job.experiment.storage), job.folder.sole_writer() if rank == 0 else nullcontext():
            job.folder.take_up()
            start = start_of(job.folder)
            for event in play(
                job.experiment, job.folder, job.reference, job.target, device, start, beside, job.constants
            ):
                if rank == 0:
                    queue.put(event)
    except DivergedError as error:
        if rank == 0:
            queue.put(error)
    except StoreError as error:
        if rank != 0:
            raise
        queue.put(error)
