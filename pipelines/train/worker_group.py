"""A group of Ray Train workers that plays one experiment. Its logged steps come back through a queue."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.train
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gan_core.health.divergence import DivergedError
from infra.cluster import free_capacity
from infra.ray_private import ControllerCallback, DataParallelTrainer
from infra.stores.protocol import StoreError
from pipelines import interrupts
from pipelines.code import Code, opened, sealed
from pipelines.runs import RunFolder, as_full_disk_error, sweep_folder
from pipelines.settings import TrainExperiment, WorkerResources
from pipelines.tracking.target import TrackingTarget
from pipelines.train._async_evaluation import AsyncEvaluator
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import play, resume_checkpoint

GROUP_RESTARTS = 3
_POLL_SECONDS = 0.5
_START_SECONDS = 60.0
_ABORT_SECONDS = 10.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupTask:
    """What every worker of a group gets."""

    experiment: TrainExperiment
    folder: RunFolder
    reference: bytes
    target: TrackingTarget
    resources: WorkerResources
    constants: dict[str, float] = field(default_factory=dict)
    """Part of each logged row."""
    code: Code | None = None
    """The user's modules that the experiment needs."""


class GroupError(RuntimeError):
    """The workers failed more often than a group is restarted."""


class ControllerIntroduction(ControllerCallback):
    """Sends the handle of Ray Train's controller to the driver, which has no other way to end it. It is the first item
    of the queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_controller_start(self, train_run_context: Any) -> None:
        self._queue.put(ray.get_runtime_context().current_actor)


def run_group(task: GroupTask, wait_for: Callable[[str], None] = lambda _: None) -> Generator[LoggedStep, None, None]:
    """Plays a task on `compute.workers` workers, from the newest checkpoint of its folder. Yields the logged steps of
    rank 0.

    If a worker is lost, Ray Train's controller restarts the group from the newest checkpoint, with fewer workers if
    `compute.min_workers` allows it. If the controller or the queue is lost, this process does so. Raises DivergedError
    or GroupError, and StoreError if the run folder cannot be saved.

    `wait_for` is called with what the driver waits for.
    """
    for restarts in range(GROUP_RESTARTS + 1):
        try:
            yield from _start(task, wait_for)
            return
        except RayActorError as error:
            if restarts == GROUP_RESTARTS:
                raise GroupError(f"the group was lost {restarts + 1} times: {_last_line(error)}") from error
            _LOG.warning("the group is started again: %s", _last_line(error))


def _start(task: GroupTask, wait_for: Callable[[str], None]) -> Generator[LoggedStep, None, None]:
    """Starts the group and yields its steps. Raises RayActorError if the controller or the queue is lost."""
    wait_for("Ray Train to start")
    with task.folder.sole_writer():
        pass  # earlier workers have ended, so all ranks see the same checkpoints
    # The queue is on the driver's node, because any other node may be lost.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(maxsize=1, actor_options={"num_cpus": 0, "scheduling_strategy": here})
    failure: list[BaseException] = []
    controller: ActorHandle | None = None
    reserved: PlacementGroup | None = None
    trainer = _trainer(task, queue)

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fit, daemon=True, name="ray-train")
    thread.start()
    try:
        while True:
            interrupts.check()
            running = thread.is_alive()
            try:
                item = queue.get(timeout=_POLL_SECONDS)
            except Empty:
                if not running:
                    break
                continue
            if isinstance(item, ActorHandle):
                controller = item
                wait_for(f"{_wanted(task)} ({free_capacity()})")
                continue
            if isinstance(item, PlacementGroup):
                reserved = item
                wait_for("the first logged step")
                continue
            if isinstance(item, DivergedError | StoreError):
                raise item
            yield item
    finally:
        with interrupts.noted():
            _end(thread, controller, queue)
            if reserved is not None:  # a controller that was killed leaves the resources of its workers reserved
                with suppress(RayError):
                    remove_placement_group(reserved)
    if failure and isinstance(failure[0], RayActorError):
        raise failure[0]
    if failure:
        raise GroupError(_last_line(failure[0])) from failure[0]


def _wanted(task: GroupTask) -> str:
    """`2 workers with 1 CPU each`."""
    workers, given = task.experiment.compute.workers, task.resources
    gpus = f" and {given.gpus:g} GPU" if given.use_gpu else ""
    return f"{workers} worker{'s' if workers > 1 else ''} with {given.cpus_per_worker:g} CPU{gpus}" + " each" * (
        workers > 1
    )


def _last_line(error: BaseException) -> str:
    return [type(error).__name__, *str(error).strip().splitlines()][-1]


def _end(thread: threading.Thread, controller: Any, queue: Any) -> None:
    """Ends the controller, then the thread that waits for it, then the queue. It waits for a controller that is
    starting. Without this the thread would still wait when Ray shuts down, which is a segmentation fault."""
    deadline = time.monotonic() + _START_SECONDS
    try:
        while thread.is_alive() and controller is None and time.monotonic() < deadline:
            with suppress(Empty):
                first = queue.get(timeout=_POLL_SECONDS)
                controller = first if isinstance(first, ActorHandle) else None
    except RayError:  # the queue is lost, and a controller that cannot introduce itself ends
        thread.join(_START_SECONDS)
    if thread.is_alive() and controller is not None:
        with suppress(RayError, GetTimeoutError):
            ray.get(controller.abort.remote(), timeout=_ABORT_SECONDS)
        ray.kill(controller)
        thread.join(_ABORT_SECONDS)
    with suppress(Exception):
        queue.shutdown(force=True)


def _trainer(task: GroupTask, queue: Any) -> Any:
    """A trainer of Ray Train. One worker needs no process group, so it gets one without a backend."""
    workers, fewest = task.experiment.compute.workers, task.experiment.compute.fewest
    count: Any = workers if fewest == workers else (fewest, workers)  # Ray annotates it as Train V1 does
    introduction: Any = ControllerIntroduction(queue)
    trainer = TorchTrainer if workers > 1 else DataParallelTrainer
    given = task.resources
    resources = {"CPU": given.cpus_per_worker, **({"GPU": given.gpus} if given.use_gpu else {})}
    return trainer(
        _work,
        train_loop_config={"task": sealed(task, task.code), "queue": queue},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=given.use_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=f"start-{time.time_ns()}",
            **task.folder.ray_storage("ray", given.nodes),
            failure_config=FailureConfig(max_failures=GROUP_RESTARTS),
            callbacks=[introduction],
        ),
    )


def _work(config: dict[str, Any]) -> None:
    """Plays the part of one rank."""
    task, queue = opened(config["task"]), config["queue"]
    rank = ray.train.get_context().get_world_rank()
    device = "cuda" if task.resources.use_gpu else "cpu"
    if rank == 0 and (reserved := get_current_placement_group()) is not None:
        queue.put(reserved)
    async_evaluator = None
    if task.experiment.metrics.asynchronous and rank == 0:
        async_evaluator = AsyncEvaluator(task.experiment, task.reference, task.resources.evaluate_on_gpu, task.code)
    try:
        with as_full_disk_error(task.experiment.storage), task.folder.sole_writer() if rank == 0 else nullcontext():
            if rank == 0:
                sweep_folder(task.folder)
            task.folder.restore()
            start = resume_checkpoint(task.folder)
            for logged in play(
                task.experiment,
                task.folder,
                task.reference,
                task.target,
                device,
                start,
                async_evaluator,
                task.constants,
            ):
                if rank == 0:
                    queue.put(logged)
    except DivergedError as error:
        if rank == 0:
            queue.put(error)
    except StoreError as error:
        if rank != 0:
            raise
        queue.put(error)
