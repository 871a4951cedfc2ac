"""Ray Train's controller makes itself known to the driver, which has no other way to end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ray

from infra.ray_private import ControllerCallback

if TYPE_CHECKING:
    from ray.util.queue import Queue


class Introduced(ControllerCallback):
    """Puts the controller's handle into the queue, before anything else is there."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_controller_start(self, train_run_context: Any) -> None:
        self._queue.put(ray.get_runtime_context().current_actor)
