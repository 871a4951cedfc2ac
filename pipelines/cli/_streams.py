"""The standard streams of a command: any of them may be closed, lose its reader, or lack characters."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

from pipelines.console import screen_of


def prepare_streams() -> None:
    """Makes messages on standard error harmless. Output that standard output's encoding lacks is replaced by `?`.

    A closed stream becomes /dev/null: otherwise the next file that is opened would take its place and get the output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    stdout: Any = sys.stdout or os.fdopen(1, "w", closefd=False)
    if hasattr(stdout, "reconfigure"):
        stdout.reconfigure(errors="replace")
    sys.stdout = stdout
    sys.stderr = screen_of(sys.stderr or os.fdopen(2, "w", closefd=False))


def reader_is_gone() -> bool:
    """Whether nobody can read standard output any more, as after `| head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def end_output() -> None:
    """Writes what is left for standard output. If that fails, drops it: Python would try again when the process ends,
    and print an error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
