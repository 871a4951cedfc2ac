"""The faults: each is injected into an attempt that runs, at a moment that the attempt's seed draws."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.runs import RunFolder
from tests.faults.attempts import CHECKPOINT, ROUNDS, Attempt, counting
from tests.faults.faulty_server import CALLS, MODES, Deadly, FaultyServer
from tests.faults.processes import descendants, gone, kill, of_role

LOCKED_SECONDS, STOPPED_SECONDS, WINDOW_SECONDS = 20.0, 6.0, 12.0


@dataclass(frozen=True)
class Undisturbed:
    """What the same game did when it was left alone."""

    folder: Path
    renames: int
    calls: dict[str, int]
    """To MLflow, by kind."""


Inject = Callable[[Attempt, Undisturbed, FaultyServer], None]


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    play: Inject
    """Starts the attempt, injects the fault, waits for the command's end."""
    ends: tuple[int, ...]
    """Exit codes of a command that meets the fault and does as promised."""
    local: bool = False
    """Whether MLflow is a database in the storage path, without a server."""


def _sometime(attempt: Attempt, before: float = 0.95) -> bool:
    """Starts the attempt and waits for a moment between its first row and its last. Returns whether it still runs."""
    attempt.start()
    if not attempt.reach(attempt.draw.uniform(0.02, before)):
        return False
    time.sleep(attempt.draw.uniform(0, 0.3))
    return attempt.running()


def _kills(role: str) -> Inject:
    def play(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
        if _sometime(attempt):
            found = of_role(attempt.pid, role)
            if found:
                attempt.note = f"{kill([attempt.draw.choice(found)])} killed"
        attempt.end()

    return play


def _kill_driver(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    if _sometime(attempt):
        attempt.note = f"{kill([attempt.pid])} killed"
    attempt.end()


def _kill_both(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    if _sometime(attempt):
        attempt.note = f"{kill([*of_role(attempt.pid, 'worker'), attempt.pid])} killed"
    attempt.end()


def _kill_at_end(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    """The driver and its workers, once the last checkpoint or the last trial is there."""
    attempt.start()
    last = RunFolder(attempt.folder).checkpoint(ROUNDS) / "checkpoint.json"
    while attempt.running() and not last.is_file() and attempt.game.progress(attempt.folder) < 1:
        time.sleep(0.005)
    time.sleep(attempt.draw.uniform(0, 0.4))
    if attempt.running():
        attempt.note = f"{kill([*of_role(attempt.pid, 'worker'), attempt.pid])} killed"
    attempt.end()


def _stop(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    if _sometime(attempt, before=0.5):
        driver = attempt.draw.random() < 0.5
        stopped = [attempt.pid] if driver else of_role(attempt.pid, "worker")[:1]
        if kill(stopped, signal.SIGSTOP):
            time.sleep(STOPPED_SECONDS)
            kill(stopped, signal.SIGCONT)
            attempt.note = f"{'driver' if driver else 'worker'} stopped"
    attempt.end()


def _signals(number: signal.Signals) -> Inject:
    def play(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
        if attempt.draw.random() < 0.4:  # while it starts
            attempt.start()
            time.sleep(attempt.draw.uniform(0.3, 8))
        else:
            _sometime(attempt)
        if attempt.running():
            attempt.note = f"{kill([attempt.pid], number)} sent"
        attempt.end()

    return play


def _kill_at_rename(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    counter = attempt.storage / f"{attempt.name}.renames"
    fatal = attempt.draw.randint(1, quiet.renames)
    attempt.variables = counting(attempt.folder, counter, fatal)
    attempt.start()
    attempt.end()
    attempt.note = f"at rename {fatal} of {quiet.renames}"


def _kills_at_call(call: str) -> Inject:
    def play(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
        number = attempt.draw.randint(1, max(quiet.calls.get(call, 1), 1))
        server.deadly = deadly = Deadly(call, number, taken=attempt.draw.random() < 0.5)
        attempt.start()
        attempt.end()
        if deadly.killed is not None:
            attempt.note = f"at {call} {number}, {'taken' if deadly.taken else 'not taken'}"

    return play


def _server(mode: str) -> Inject:
    """For some seconds, or until after the run's end."""

    def play(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
        if _sometime(attempt):
            server.mode = mode
            attempt.note = mode
            if attempt.draw.random() < 0.5:
                end = time.monotonic() + WINDOW_SECONDS
                while attempt.running() and time.monotonic() < end:
                    time.sleep(0.1)
                server.mode = None
        attempt.end()
        server.mode = None

    return play


def _lock_database(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    if _sometime(attempt):
        with closing(sqlite3.connect(attempt.storage / "mlflow.db", timeout=30)) as connection:
            with suppress(sqlite3.OperationalError):
                connection.execute("BEGIN EXCLUSIVE")
                attempt.note = "locked"
            end = time.monotonic() + LOCKED_SECONDS
            while attempt.running() and time.monotonic() < end:
                time.sleep(0.1)
            connection.rollback()
    attempt.end()


def _fill_disk(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    ballast = attempt.storage / "ballast"
    if _sometime(attempt, before=0.7):
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        attempt.note = "full"
    attempt.end()
    ballast.unlink(missing_ok=True)


def _damage(attempt: Attempt, quiet: Undisturbed, server: FaultyServer) -> None:
    """Kills the driver and its workers after two checkpoints, and damages the newest one or the end of a file of
    lines."""
    attempt.start()
    if not attempt.reach(max(attempt.draw.uniform(0.3, 0.95), 2.5 * CHECKPOINT / ROUNDS)):
        attempt.end()
        return
    below = descendants(attempt.pid)
    kill([*of_role(attempt.pid, "worker"), attempt.pid])
    attempt.end()
    gone(below)
    checkpoints = sorted(attempt.folder.rglob("checkpoint.json"), key=os.path.getmtime)
    lines = [*attempt.folder.rglob("journal.jsonl"), *attempt.folder.rglob("metrics.jsonl")]
    choices = [checkpoints[-1], checkpoints[-1].with_name("state.safetensors")] if checkpoints else []
    file = attempt.draw.choice([*choices, *lines])
    content = bytearray(file.read_bytes())
    if file.suffix == ".jsonl":  # as a crash in the middle of a write leaves it
        file.write_bytes(content + content.splitlines()[-1][: attempt.draw.randint(1, 20)])
        attempt.note = f"{file.name} ends in half a line"
    elif attempt.draw.random() < 0.5:
        file.write_bytes(content[: attempt.draw.randrange(len(content))])
        attempt.note = f"{file.name} cut"
    else:
        content[attempt.draw.randrange(len(content))] ^= 1 << attempt.draw.randrange(8)
        file.write_bytes(content)
        attempt.note = f"one bit of {file.name}"


FAULTS = (
    Fault("worker killed", _kills("worker"), (0,)),
    Fault("driver killed", _kill_driver, (0, -9)),
    Fault("driver and workers killed", _kill_both, (0, -9)),
    Fault("driver and workers killed after the last checkpoint", _kill_at_end, (0, -9)),
    Fault("Ray Train's controller killed", _kills("controller"), (0,)),
    Fault("the queue of events killed", _kills("queue"), (0,)),
    Fault("raylet killed", _kills("raylet"), (0, 1, 75)),
    Fault("GCS killed", _kills("gcs"), (0, 1, 75)),
    Fault("driver or worker stopped for 6 s", _stop, (0,)),
    Fault("TERM", _signals(signal.SIGTERM), (0, 75)),
    Fault("INT", _signals(signal.SIGINT), (0, 75)),
    Fault("HUP", _signals(signal.SIGHUP), (0, 75)),
    Fault("killed at a rename", _kill_at_rename, (0, -9)),
    *(Fault(f"killed at a call to MLflow: {call}", _kills_at_call(call), (0, -9)) for call in CALLS),
    *(Fault(f"MLflow's server: {mode}", _server(mode), (0,)) for mode in MODES),
    Fault("MLflow's database locked for 20 s", _lock_database, (0,), local=True),
    Fault("disk full", _fill_disk, (0, 75)),
    Fault("files damaged", _damage, (0, -9)),
)


@contextmanager
def small_disk(folder: Path, megabytes: int = 48) -> Iterator[Path]:
    """A disk of its own, which can be filled. Raises PermissionError if this user cannot mount one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        raise PermissionError(made.stderr.decode().strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)
