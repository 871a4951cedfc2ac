"""Locks between processes: who waits, who does not, what files stay. Two open files stand for two processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infra.locks import (
    HeldError,
    alone,
    held,
    is_held,
    lock_at_once,
    lock_of,
    lock_shared,
    lock_within,
    temporary,
    unless_shared,
)


@pytest.fixture
def opened(tmp_path):
    """Opens the same file again and again."""
    descriptors = []

    def again() -> int:
        descriptors.append(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
        return descriptors[-1]

    yield again
    for descriptor in descriptors:
        os.close(descriptor)


def test_one_at_a_time_has_a_lock(opened):
    assert lock_at_once(opened())
    assert not lock_at_once(opened())


def test_a_lock_is_waited_for_until_its_time_is_up(opened, tmp_path):
    first, second = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT), opened()
    assert lock_at_once(first)
    began = time.monotonic()
    assert not lock_within(second, 0.2)
    assert time.monotonic() - began >= 0.2
    threading.Timer(0.2, os.close, [first]).start()
    assert lock_within(second, 20)


def test_who_waits_for_a_path_is_told_once(tmp_path):
    waiting, entered = [], threading.Event()

    def second() -> None:
        with alone(tmp_path / "run", lambda: (waiting.append(1), entered.set())):
            waiting.append(2)

    thread = threading.Thread(target=second)
    with alone(tmp_path / "run", lambda: pytest.fail("nobody else is here")):
        thread.start()
        assert entered.wait(10)
        assert waiting == [1]
    thread.join()
    assert waiting == [1, 2]
    assert list(tmp_path.iterdir()) == [lock_of(tmp_path / "run")]


def test_a_lock_that_is_held_is_refused_with_its_holder(tmp_path):
    assert not is_held(tmp_path / "driver")
    with held(tmp_path / "driver"):
        assert is_held(tmp_path / "driver")
        with pytest.raises(HeldError, match=f"process {os.getpid()} on "), held(tmp_path / "driver"):
            pass
    assert not is_held(tmp_path / "driver")
    with held(tmp_path / "driver"):
        pass


HOLDS = """
import sys, time
from pathlib import Path
from infra.locks import held

with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path / "driver"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(HeldError, match=f"process {process.pid} on "), held(tmp_path / "driver"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with held(tmp_path / "driver"):
        pass


def test_a_lock_whose_file_was_deleted_is_had_by_one(tmp_path):
    """The holder deletes its folder with all that is in it; who comes then makes a new one."""
    with held(tmp_path / "driver"):
        lock_of(tmp_path / "driver").unlink()
        with held(tmp_path / "driver"), pytest.raises(HeldError), held(tmp_path / "driver"):
            pass


def test_what_is_shared_is_not_had_alone(tmp_path):
    descriptors = [lock_shared(tmp_path / "used") for _ in range(2)]
    for descriptor in descriptors:
        with unless_shared(tmp_path / "used") as unused:
            assert not unused
        os.close(descriptor)
    with unless_shared(tmp_path / "used") as unused:
        assert unused


def test_a_temporary_file_is_deleted_unless_it_was_moved(tmp_path):
    with temporary(tmp_path / "part"):
        (tmp_path / "part").write_text("1")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), temporary(tmp_path / "part"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with temporary(tmp_path / "part"):
        (tmp_path / "part").rename(tmp_path / "whole")
    assert list(tmp_path.iterdir()) == [tmp_path / "whole"]


def test_who_waits_for_a_temporary_file_has_a_new_one(tmp_path):
    """The first one was moved before the wait ended."""
    path, begun = tmp_path / "part", threading.Event()

    def second() -> None:
        begun.set()
        with temporary(path):
            path.write_text("second")
            path.rename(tmp_path / "second")

    thread = threading.Thread(target=second)
    with temporary(path):
        thread.start()
        begun.wait(10)
        time.sleep(0.1)
        path.write_text("first")
        path.rename(tmp_path / "first")
    thread.join()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"first": "first", "second": "second"}


def test_no_other_module_of_ours_locks_files():
    root = Path(__file__).parents[2]
    packages = ("gan_core", "tune_spaces", "infra", "pipelines")
    found = {
        file.relative_to(root).as_posix()
        for package in packages
        for file in (root / package).rglob("*.py")
        if "fcntl" in file.read_text()
    }
    assert found == {"infra/locks.py"}
