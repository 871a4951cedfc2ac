"""Prints the modules of ours through which `family.lr` goes from the command line to the optimiser, one a line.

It runs `ganfleet train wgan_gp family.lr=...` in this process and watches the calls. Only Ray is replaced: its trainer
calls the worker's function in a thread, and its queue is one of this process. A module is on the journey if one of its
functions has the value among its arguments and calls, directly or through others, one of these:

- the check of the whole experiment, `TrainExperiment.load`;
- Ray's trainer, which takes the experiment to another process;
- the function of `gan_core.optimizers` that gets `lr` in a worker: there the journey ends. The driver's check builds
  the networks, too, but trains nothing.

A function that calls one of them without the value among its arguments is no part of the journey; the last line names
such modules. Run it as `python -m tests.journey`.
"""

from __future__ import annotations

import dataclasses
import queue
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any

import ray
import ray.train
from pydantic import BaseModel

from gan_core.settings import Settings
from infra.cluster import Cluster
from pipelines.cli import _main as cli
from pipelines.settings import TrainExperiment
from pipelines.train import command, worker_group

LR = "0.000123456"
OURS = ("gan_core.", "infra.", "pipelines.", "tune_spaces.")
END = "gan_core.optimizers"
SMALL = (
    *("data.name=ring8", "data.batch_size=16", "family.width=4", "family.latent=8", "family.n_critic=1"),
    *("budget.rounds=1", "metrics.extractor=pixels", "metrics.samples=100", "compute.device=cpu"),
)


def holds(value: Any, seen: set[int]) -> bool:
    """Whether the learning rate is in a value: in a text, in a collection, or in a field of an object of ours."""
    if isinstance(value, str | bytes):
        return LR in (value if isinstance(value, str) else value.decode(errors="replace"))
    if isinstance(value, float):
        return value == float(LR)
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, dict):
        return any(holds(one, seen) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(holds(one, seen) for one in value)
    if dataclasses.is_dataclass(value) or isinstance(value, BaseModel) or type(value).__module__.startswith(OURS):
        return any(holds(one, seen) for one in getattr(value, "__dict__", {}).values())
    return False


def given(frame: FrameType) -> bool:
    """Whether a call has the learning rate among its arguments."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4)]
    return any(holds(frame.f_locals.get(name), set()) for name in names)


def in_worker(frame: FrameType | None) -> bool:
    """Whether a call is made by a worker."""
    while frame is not None and frame.f_code is not LocalTrainer.fit.__code__:
        frame = frame.f_back
    return frame is not None


class Journey:
    """The modules that the learning rate went through, in the order in which they had it."""

    def __init__(self) -> None:
        self.functions: dict[str, str] = {}
        """By module: its first function that had the value."""
        self.without: set[str] = set()
        """Modules whose functions were called on the way without the value."""
        self.end = ""
        """The call that gave the value to the optimiser."""

    def watch(self, frame: FrameType, event: str, _: object) -> None:
        """For `sys.setprofile`."""
        if event != "call":
            return
        if frame.f_code is Settings.load.__func__.__code__:
            arrived = frame.f_locals["cls"] is TrainExperiment and given(frame)
        elif frame.f_code is LocalTrainer.__init__.__code__:
            arrived = given(frame)
        else:
            arrived = frame.f_globals.get("__name__") == END and given(frame) and in_worker(frame)
        if arrived:
            self._record(frame)

    def _record(self, frame: FrameType | None) -> None:
        calls = []
        while frame is not None:
            calls.append(frame)
            frame = frame.f_back
        for call in reversed(calls):
            module, function = call.f_globals.get("__name__", ""), call.f_code.co_qualname
            if module == END:
                self.end = f"{module}.{function}"
            elif module.startswith(OURS):
                if given(call):
                    self.functions.setdefault(module, function)
                else:
                    self.without.add(module)


class LocalTrainer:
    """In place of Ray's trainer: the worker's function is called in this process."""

    def __init__(self, work: Any, train_loop_config: dict[str, Any], **_: object) -> None:
        self._work, self._config = work, train_loop_config

    def fit(self) -> None:
        self._work(self._config)


class LocalQueue(queue.Queue):
    """In place of Ray's queue."""

    def __init__(self, maxsize: int, actor_options: dict[str, Any]) -> None:
        super().__init__(maxsize)

    def shutdown(self, force: bool) -> None:
        pass


@contextmanager
def local_cluster() -> Iterator[Cluster]:
    """In place of a Ray cluster."""
    yield Cluster(cpus=2, gpus=0, local=True)


def without_ray() -> None:
    """Replaces what `pipelines.train` uses of Ray."""
    command.cluster = local_cluster
    worker_group.DataParallelTrainer = LocalTrainer
    worker_group.Queue = LocalQueue
    worker_group.Empty = queue.Empty
    ray.get_runtime_context = lambda: SimpleNamespace(get_node_id=lambda: "0" * 56)
    worker_group.get_current_placement_group = lambda: None
    ray.train.get_context = lambda: SimpleNamespace(get_world_rank=lambda: 0)


def travelled(storage: str) -> Journey:
    """Trains for one round and returns the journey of its learning rate."""
    without_ray()
    journey = Journey()
    sys.argv = ["ganfleet", "train", "wgan_gp", f"family.lr={LR}", *SMALL, f"storage.path={storage}"]
    threading.setprofile(journey.watch)
    sys.setprofile(journey.watch)
    try:
        cli.run_command()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return journey


def main() -> None:
    """Prints the journey."""
    with tempfile.TemporaryDirectory() as storage:
        journey = travelled(storage)
    print(f"\nfamily.lr goes through {len(journey.functions)} modules:")
    width = max(map(len, journey.functions))
    for number, (module, function) in enumerate(journey.functions.items(), 1):
        print(f"{number}  {module:<{width}}  {function}")
    print(f"to {journey.end}")
    print(f"called on the way without it: {', '.join(sorted(journey.without - journey.functions.keys()))}")


if __name__ == "__main__":
    main()
