"""A worker group whose driver is interrupted, and one that loses a part: nothing of Ray Train still runs afterwards."""

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util.state import list_actors

from pipelines.runs._disk_full import FullDiskError
from pipelines.runs._folder import RunFolder
from pipelines.settings import TrainExperiment
from pipelines.settings._capacity import worker_resources
from pipelines.tracking.runs import prepare_tracking, run_target
from pipelines.train import worker_group
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import play
from pipelines.train.worker_group import GroupError, GroupTask, run_group
from tests.pipelines.small_runs import created, digest, rows, small_train, timeless


@pytest.fixture
def group(request, storage, reference, ray_cluster):
    """Starts a game on a worker group."""

    def begun(name: str, kind: type[RunFolder] = RunFolder, rounds: int = 100000) -> Iterator[LoggedStep]:
        words = (f"budget.rounds={rounds}", "budget.log_every=5", "budget.checkpoint_every=10")
        experiment = small_train(storage, "wgan_gp", name, *words)
        folder = kind(created(experiment).path)
        target = run_target(experiment, prepare_tracking(experiment), folder, {})
        return run_group(GroupTask(experiment, folder, reference, target, worker_resources(experiment, ray_cluster)))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray Tune leaves its own after a search
    yield begun
    signal.signal(signal.SIGINT, before)
    assert not waiting(), "a thread waits for Ray's controller: Ray's shutdown would be a segmentation fault"


def waiting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ray-train"]


def test_a_game_that_is_closed_ends_its_workers(group):
    steps = group("closed")
    assert next(steps).step == 5
    assert waiting()
    steps.close()


@pytest.mark.parametrize("seconds", [0.2, 2])
def test_a_game_that_is_interrupted_while_it_starts_does_so_too(group, seconds):
    alarm = threading.Timer(seconds, _thread.interrupt_main)
    alarm.start()
    with pytest.raises(KeyboardInterrupt):
        next(group(f"interrupted-{seconds}".replace(".", "-")))


class FullFolder(RunFolder):
    """A folder on a full disk."""

    def save(self, step: int | None = None) -> None:
        Path("/dev/full").write_text("a checkpoint")


def test_a_full_disk_of_a_worker_is_told_at_once(group, storage):
    """Restarting the group would not help."""
    steps = group("full", FullFolder)
    with pytest.raises(FullDiskError, match=rf"^storage.path={storage} \(.*No space left on device; nearest: room"):
        list(steps)


def living(kind: str) -> list[int]:
    """The processes that are an actor of this class."""
    here = ray.get_runtime_context().gcs_address  # there may be another cluster on this machine
    return [one.pid for one in list_actors(here, filters=[("class_name", "=", kind), ("state", "=", "ALIVE")])]


def kill(kind: str) -> None:
    """Kills the one process that is an actor of this class, and waits until Ray knows that it is dead."""
    (pid,) = living(kind)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while pid in living(kind):
        assert time.monotonic() < deadline, f"Ray does not notice that {kind} is dead"
        time.sleep(0.05)


@pytest.mark.parametrize("lost", ["TrainController", "_QueueActor"])
def test_the_group_is_started_again_without_its_controller_or_queue(group, storage, reference, lost):
    name = f"without-{lost.strip('_').lower()}"
    steps = group(name, rounds=60)
    assert [next(steps).step for _ in range(3)] == [5, 10, 15]
    kill(lost)
    assert [one.step for one in steps][-8:] == [25, 30, 35, 40, 45, 50, 55, 60]
    folder = RunFolder(storage / name)
    alone = RunFolder(storage / f"{name}-alone")
    alone.path.mkdir()
    list(play(TrainExperiment.from_yaml(folder.experiment.read_text()), alone, reference, target=None))
    assert digest(folder.checkpoint(60)) == digest(alone.checkpoint(60))
    assert [timeless(row) for row in rows(folder.path)] == [timeless(row) for row in rows(alone.path)]


def test_a_group_that_is_lost_again_and_again_fails(group, monkeypatch):
    monkeypatch.setattr(worker_group, "GROUP_RESTARTS", 1)
    steps = group("again-and-again", rounds=5000)
    for _ in range(2):
        next(steps)
        while not living("TrainController"):  # a step that was played before the kill
            next(steps)
        kill("TrainController")
    with pytest.raises(GroupError, match="^the group was lost 2 times: "):
        list(steps)
