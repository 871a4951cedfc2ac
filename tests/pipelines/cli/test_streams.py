"""Standard streams that are closed, have lost their reader, or lack characters, and what a command makes of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.small_runs import command, environment

DRY_RUN = ("train", "wgan_gp", "name=first", "--dry-run")
MISTAKE = ("train", "wgan-gp")

KILLED = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number:d})

sys.meta_path.insert(0, Finder())
sys.argv = ["ganfleet", *{words!r}]
from pipelines.cli import main
main()
"""
"""A command that gets a signal when it is about to import a module."""


@pytest.fixture
def no_reader() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def no_terminal() -> Iterator[int]:
    """A terminal that was closed."""
    terminal, ours = os.openpty()
    os.close(terminal)
    yield ours
    os.close(ours)


def answer(*words: str, **streams: object) -> subprocess.CompletedProcess[str]:
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(command(*words), env=environment(), text=True, check=False, **{**piped, **streams})


@pytest.mark.parametrize("words", [DRY_RUN, ("train", "--help")], ids=["dry run", "help"])
def test_output_that_nobody_reads_ends_a_command_quietly(no_reader, words):
    done = answer(*words, stdout=no_reader)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("where", ["no_reader", "no_terminal"])
def test_a_mistake_is_one_though_nobody_reads_of_it(request, where):
    assert answer(*MISTAKE, stderr=request.getfixturevalue(where)).returncode == 2


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize(("words", "code"), [(DRY_RUN, 0), (MISTAKE, 2)])
def test_closed_streams_change_no_exit_code(closed, words, code):
    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    done = answer(*words, preexec_fn=close)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_output_on_a_full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        done = answer(*DRY_RUN, stdout=full)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", b"FID 12 ? 3 ??"), ("latin-1", b"FID 12 \xb1 3 ??"), ("utf-8", "FID 12 ± 3 ━╮".encode())],
)
def test_characters_that_the_screen_lacks_are_replaced(encoding, shown):
    program = """
import sys
from rich.console import Console
from pipelines.cli._streams import prepare_streams
from pipelines.console import say, screen_of

prepare_streams()
print("FID 12 ± 3 ━╮")
say(Console(file=screen_of(sys.__stdout__)), "FID 12 ± 3 ━╮")
"""
    coded = {**environment(), "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=coded, capture_output=True)
    assert (done.stdout.splitlines(), done.stderr) == ([shown, shown], b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["pipelines.cli._main", "pydantic", "torch"])
def test_a_signal_at_the_start_ends_a_command_as_interrupted(tmp_path, module, number):
    (tmp_path / "photos").mkdir()
    words = ["data", "pack", "photos", "packed"]
    program = KILLED.format(module=module, number=number, words=words)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (75, "", "interrupted\n")


def test_a_signal_before_a_run_is_played_says_how_to_resume_it(tmp_path: Path):
    program = KILLED.format(module="torch", number=signal.SIGTERM, words=["train", "wgan_gp", "name=first"])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (75, "interrupted; to go on: ganfleet train --resume first\n")
