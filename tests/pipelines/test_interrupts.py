"""Ctrl-C, TERM and HUP, in processes of their own that import `pipelines.interrupts` and nothing heavy."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from pipelines import interrupts

PREAMBLE = """
import os, signal, sys
from pipelines import interrupts

def hear(number):
    os.kill(os.getpid(), number)

def raises(number):
    try:
        hear(number)
    except KeyboardInterrupt:
        return True
    return False
"""


def program(text: str, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PREAMBLE + text]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=before)


def blocked() -> None:
    """Ray starts the driver of a job with SIGINT blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def ignored() -> None:
    """A shell starts a background job with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def without_hangup() -> None:
    """`nohup` starts a program with HUP ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


ALL = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("started", [None, blocked, ignored])
def test_a_second_signal_does_not_cut_short_what_the_first_began(first, second, started):
    done = program(
        f"""
interrupts.handle_signals()
with interrupts.raised():
    print(raises({first:d}), raises({second:d}))
""",
        started,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True False\n", "")


@ALL
def test_a_signal_that_comes_early_is_heard_where_signals_are_raised(number):
    done = program(f"""
interrupts.handle_signals()
print(raises({number:d}))
with interrupts.raised():
    print("never")
""")
    assert done.stdout == "False\n"
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


@ALL
def test_a_signal_during_imports_is_heard_at_their_end(number):
    done = program(f"""
interrupts.handle_signals()
with interrupts.raised():
    try:
        with interrupts.deferred():
            print(raises({number:d}))
        print("never")
    except KeyboardInterrupt:
        print("at the end")
""")
    assert (done.stdout, done.stderr) == ("False\nat the end\n", "")


@ALL
def test_what_a_library_swallows_is_heard_at_the_next_check(number):
    done = program(f"""
interrupts.handle_signals()
with interrupts.raised():
    assert raises({number:d})
    try:
        interrupts.check()
    except KeyboardInterrupt:
        print("at the check")
""")
    assert (done.stdout, done.stderr) == ("at the check\n", "")


@ALL
def test_the_exit_code_stays_once_it_is_known(number):
    done = program(f"""
interrupts.handle_signals()
with interrupts.raised():
    interrupts.settle()
    print(raises({number:d}), interrupts.stop_requested.is_set())
    interrupts.ignore_signals()
import atexit
atexit.register(hear, {number:d})
sys.exit(9)
""")
    assert (done.returncode, done.stdout, done.stderr) == (9, "False True\n", "")


def test_a_program_that_was_started_by_nohup_outlives_its_terminal():
    done = program("interrupts.handle_signals()\nwith interrupts.raised():\n    hear(signal.SIGHUP)", without_hangup)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_imports_pipelines_keeps_its_handlers():
    done = program("""
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
before = [signal.getsignal(number) for number in numbers]
import pipelines.cli._main, pipelines.launch
interrupts.settle()
print(before == [signal.getsignal(number) for number in numbers])
""")
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("own", [False, True])
def test_a_programs_ctrl_c_is_that_of_a_command_while_it_plays_a_run(own):
    """Unless it has a handler of its own. Afterwards it is as before."""
    heard = []
    before = signal.signal(signal.SIGINT, (lambda *_: heard.append("own")) if own else signal.default_int_handler)
    mine = signal.getsignal(signal.SIGINT)
    try:
        with interrupts.handled():
            with interrupts.noted():
                signal.raise_signal(signal.SIGINT)  # only noted
            assert (interrupts.stop_requested.is_set(), heard) == ((False, ["own"]) if own else (True, []))
            with nullcontext() if own else pytest.raises(KeyboardInterrupt), interrupts.raised():
                pass
        assert not interrupts.stop_requested.is_set()
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
