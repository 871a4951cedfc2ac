"""Locks between processes. The system releases a process's locks when it ends; lock files stay.

This is the only module that calls `flock`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.05


def lock_of(path: Path) -> Path:
    """The file that `alone` locks."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock of `path`, which one process has at a time. `path` need not exist.

    `waiting` is called once if another process holds the lock.
    """
    lock = FileLock(lock_of(path))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lock_at_once(descriptor: int) -> bool:
    """Locks an open file for this process alone. Returns False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_within(descriptor: int, seconds: float) -> bool:
    """Like `lock_at_once`, but waits up to `seconds` for the other process."""
    end = time.monotonic() + seconds
    while not lock_at_once(descriptor):
        if time.monotonic() >= end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def lock_shared(path: Path) -> int:
    """Locks a file, made if it is missing, together with others who share it. Waits for a process that has it alone.

    Returns a descriptor: the lock is held until it is closed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextmanager
def unless_shared(path: Path) -> Iterator[bool]:
    """Whether nobody holds `lock_shared` of an existing file. If so, nobody can take it within the context."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield lock_at_once(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary(path: Path) -> Iterator[None]:
    """Makes a file that only this process may fill, and deletes it in the end unless it was moved.

    Waits for another process that fills it. A killed process leaves its file to the next one.
    """
    descriptor = _locked(path)
    try:
        yield
    finally:
        if _is_at(descriptor, path):
            path.unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its last holder has moved or deleted it


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False
