"""A worker group whose driver is interrupted: nothing of Ray Train still runs afterwards."""

import _thread
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.runs._disk_full import FullDiskError
from pipelines.runs._folder import RunFolder
from pipelines.settings._capacity import worker_resources
from pipelines.tracking.runs import prepare_tracking, run_target
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.worker_group import GroupTask, run_group
from tests.pipelines.small_runs import created, small_train


@pytest.fixture
def group(request, storage, reference, ray_cluster):
    """Starts a long game on a worker group."""

    def begun(name: str, kind: type[RunFolder] = RunFolder) -> Iterator[LoggedStep]:
        words = ("budget.rounds=100000", "budget.log_every=5", "budget.checkpoint_every=10")
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
