"""What ends a run from outside."""

import signal
import subprocess
import sys

import pytest

TWICE = """
import os, signal
from pipelines.running import hear_signals

hear_signals()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    print("what was begun is ended well")
"""


def blocked() -> None:
    """As Ray starts the driver of a job."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def ignored() -> None:
    """As a shell starts a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("started", [None, blocked, ignored])
def test_a_second_term_does_not_cut_short_what_the_first_began(started):
    done = subprocess.run(
        [sys.executable, "-c", TWICE], capture_output=True, text=True, check=False, preexec_fn=started
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "what was begun is ended well\n", "")
