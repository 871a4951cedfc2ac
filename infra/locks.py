"""Locks between processes. The system releases a process's locks when it ends; lock files stay.

This is the only module that calls `flock`.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.5
"""For which `held` waits: `is_held` has a lock for a moment."""


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


class HeldError(Exception):
    """Another process holds the lock. The message says which one."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock of `path`, which need not exist; its folder must. Raises HeldError if another process holds it.

    The lock file names the process. It may be deleted meanwhile.
    """
    file = lock_of(path)
    descriptor = _locked(file, _LOOK_SECONDS)
    if descriptor is None:
        raise HeldError(_holder(file))
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(file: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return file.read_text() or "another process"
    return "another process"


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of `path`. It sees processes of other machines only where the file system's
    locks do."""
    try:
        descriptor = os.open(lock_of(path), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


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
    assert descriptor is not None
    try:
        yield
    finally:
        if _is_at(descriptor, path):
            path.unlink()
        os.close(descriptor)


def _locked(path: Path, seconds: float | None = None) -> int | None:
    """Opens and locks the file at `path`. Waits for the process that has it; None: for longer than `seconds`."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if seconds is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not lock_within(descriptor, seconds):
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its last holder has moved or deleted it


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False
