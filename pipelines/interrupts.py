"""The signals that ask a command to end: Ctrl-C, TERM and HUP.

The command line handles them from its first line on; a program that imports `pipelines` keeps its own handlers.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.2


class StopRequest:
    """Whether this process was asked to end. Unlike `threading.Event` it takes no lock: a handler that sets an event
    while the main thread is inside that event would wait for itself."""

    def __init__(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        """Whether it was asked."""
        return self._set

    def set(self) -> None:
        """It was asked."""
        self._set = True

    def clear(self) -> None:
        """It was obeyed."""
        self._set = False

    def wait(self, seconds: float) -> None:
        """Returns after these seconds, or once it was asked."""
        end = time.monotonic() + seconds
        while not self._set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))


stop_requested = StopRequest()
"""Set by the first signal, whatever a library makes of the signal."""


class InterruptedRunError(Exception):
    """The run was asked to end, and can be resumed."""


_raising = False
"""Whether a signal raises KeyboardInterrupt."""


def handle_signals() -> None:
    """Makes Ctrl-C, TERM and HUP set `stop_requested`, and inside `raised` raise KeyboardInterrupt.

    `nohup` ignores HUP, and so it stays. Ray blocks SIGINT in its jobs, and a shell ignores it in a background job.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, *_ENDING})
    signal.signal(signal.SIGINT, _interrupt)
    for number in _ENDING:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end_once)


@contextmanager
def handled() -> Iterator[None]:
    """Inside, Ctrl-C does what it does to a command, if it would raise KeyboardInterrupt outside. Other handlers of the
    program stay; in a thread that is not the main one there are none."""
    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        stop_requested.clear()


def settle() -> None:
    """The exit code is known, so from now on a signal only sets `stop_requested`."""
    for number in (signal.SIGINT, *_ENDING):
        if signal.getsignal(number) in (_interrupt, _end_once):
            signal.signal(number, lambda *_: stop_requested.set())


def ignore_signals() -> None:
    """Nothing is left to do. Python restores the default handlers before a process has ended, so a late signal would
    replace the exit code."""
    for number in (signal.SIGINT, *_ENDING):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def raised() -> Iterator[None]:
    """Inside, a signal raises KeyboardInterrupt. One that came before raises it at the start."""
    with _as(raising=True):
        check()
        yield


@contextmanager
def noted() -> Iterator[None]:
    """Inside, a signal only sets `stop_requested`."""
    with _as(raising=False):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal raises nothing. It does so at the end, if it would outside."""
    with noted():
        yield
    if _raising:
        check()


def check() -> None:
    """Raises KeyboardInterrupt if this process was asked to end: a library may have swallowed the first one."""
    if stop_requested.is_set():
        raise KeyboardInterrupt


@contextmanager
def _as(raising: bool) -> Iterator[None]:
    global _raising
    before, _raising = _raising, raising
    try:
        yield
    finally:
        _raising = before


def _interrupt(*_: object) -> None:
    stop_requested.set()
    if _raising:
        raise KeyboardInterrupt


def _end_once(*_: object) -> None:
    """Treats the first TERM or HUP as Ctrl-C and ignores the others: Slurm sends TERM to every process of a job and the
    script passes it on, so the second one would cut short the end of the run."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    stop_requested.set()
    signal.raise_signal(signal.SIGINT)
