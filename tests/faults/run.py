"""Breaks runs and searches on purpose, resumes them, and writes what was lost: the table of `docs/reliability.md`.

Each round injects every fault once. A round takes the next game of each fault's shuffled list: wgan_gp, began and dcgan
and a search, on one worker and on two. What is left is compared with the same game left alone: its weights bit for bit,
its rows and pictures, and every value, picture, artifact and status in MLflow.

    python tests/faults/run.py --rounds 8 [--seed 0] [--only TEXT] [--game "wgan_gp on 1"] [--jobs 2] [--write]

It prints one line an attempt. The exit code is 1 if anything was lost. Filling a disk needs root, to mount a small one.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from mlflow import MlflowClient

from tests.faults.attempts import Attempt, Game, counting, described
from tests.faults.faults import FAULTS, Fault, Undisturbed, small_disk
from tests.faults.faulty_server import SECRET, FaultyServer
from tests.pipelines.small_runs import client_of
from tests.servers import free_ports, running

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: written by python tests/faults/run.py --write -->", "<!-- end of table -->"
GAMES = tuple(Game(name, workers) for name in ("wgan_gp", "began", "dcgan", "search") for workers in (1, 2))


@dataclass
class Row:
    """What was seen of one fault."""

    fault: Fault
    games: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    """Attempts that ended before the fault met them."""
    ends: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def cells(self) -> str:
        tried = sum(self.games.values())
        ends = ", ".join(f"{code} ({count})" for code, count in sorted(self.ends.items()))
        lost = "; ".join(f"{what} ({count})" for what, count in self.lost.items()) or "nothing"
        return f"| {self.fault.name} | {tried} | {ends} | {lost} |"


class Laboratory:
    """A storage path, MLflow's server with its proxy, and each game left alone once."""

    def __init__(self, storage: Path, server: FaultyServer) -> None:
        self.storage, self.server = storage, server
        self._undisturbed: dict[Game, Undisturbed] = {}

    def undisturbed(self, game: Game) -> Undisturbed:
        """The game left alone. The first call plays it."""
        if game not in self._undisturbed:
            self.server.reset()
            attempt = Attempt(
                game, self.storage, f"quiet-{game.name}-{game.workers}", random.Random(0), self.server.url
            )
            counter = self.storage / f"{attempt.name}.renames"
            attempt.variables = counting(attempt.folder, counter)
            attempt.start()
            attempt.end()
            lost = attempt.lost(attempt.folder, MlflowClient(self.server.url))
            if attempt.codes != [0] or lost:
                raise SystemExit(f"{game}, left alone: {attempt.codes} {lost}, {attempt.screen.read_text()[-500:]}")
            calls = dict(self.server.calls)
            self._undisturbed[game] = Undisturbed(attempt.folder, counter.stat().st_size, calls)
        return self._undisturbed[game]

    def attempt(self, fault: Fault, game: Game, number: int, seed: str) -> tuple[Attempt, list[str]]:
        """Injects a fault into a game. Returns what was lost."""
        quiet = self.undisturbed(game)
        self.server.reset()
        with ExitStack() as stack:
            storage = self.storage
            if fault.name == "disk full":
                storage = stack.enter_context(small_disk(self.storage / f"disk-{number}"))
                shutil.copytree(self.storage / "cache", storage / "cache")
            uri = None if fault.local else self.server.with_password
            attempt = Attempt(game, storage, f"f{number}", random.Random(seed), uri)
            try:
                fault.play(attempt, quiet, self.server)
                self.server.reset()
                attempt.finish()
                client = client_of(storage) if fault.local else MlflowClient(self.server.url)
                wrong = attempt.lost(quiet.folder, client)
            finally:
                if attempt.running():
                    attempt.end()
            if attempt.note and attempt.codes[0] not in fault.ends:
                wrong.insert(0, f"ended with {attempt.codes[0]}")
            return attempt, wrong


def places_with_secret(storage: Path) -> list[str]:
    """The files below a folder that have the password: runs, screens, MLflow's database and artifacts."""
    found = subprocess.run(["grep", "-rlaF", SECRET, "."], cwd=storage, capture_output=True, text=True, check=False)
    return sorted(found.stdout.splitlines())


@contextmanager
def laboratory(storage: Path) -> Iterator[Laboratory]:
    """Starts MLflow's server on a new SQLite file."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server += ["--backend-store-uri", f"sqlite:///{storage}/server.db", "--artifacts-destination", f"{storage}/served"]
    with running(
        [["env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", *server]], f"{url}/health", storage / "server.log", 120
    ):
        proxy = FaultyServer(url)
        try:
            yield Laboratory(storage, proxy)
        finally:
            proxy.close()


def write(rows: list[Row], secrets: list[str], seed: int) -> None:
    """Replaces the table of the page."""
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    total = sum(sum(row.games.values()) for row in rows)
    games = ", ".join(sorted({game for row in rows for game in row.games}))
    table = ["| fault | tries | exit code of the command (tries) | lost after resuming |", "|---|---|---|---|"]
    table += [row.cells() for row in rows if row.games]
    missed = sum(row.missed for row in rows)
    about = f"{total} tries with seed {seed}, of {games}; {missed} more ended before their fault came. "
    about += f"Files with the password of `tracking.uri` afterwards: {len(secrets)}."
    PAGE.write_text("\n".join([head.rstrip(), "", BEGIN, "", about, "", *table, "", END]) + tail)


@dataclass(frozen=True)
class Task:
    """One attempt."""

    row: Row
    game: Game
    number: int


def play(tasks: list[Task], place: Path, jobs: int, seed: int) -> None:
    """Makes the attempts, several at a time, each thread in a laboratory of its own. Ctrl-C lets those that run end."""
    left, taking = iter(tasks), threading.Lock()
    stopped = threading.Event()

    def attempts(folder: Path) -> None:
        folder.mkdir()
        with laboratory(folder) as lab:
            while not stopped.is_set():
                with taking:
                    task = next(left, None)
                if task is None:
                    return
                _try(task, lab, seed)

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(attempts, place / f"lab-{number}") for number in range(jobs)]
        try:
            wait(running)
        except KeyboardInterrupt:
            stopped.set()
            wait(running)
    for one in running:
        one.result()


def _try(task: Task, lab: Laboratory, seed: int) -> None:
    row = task.row
    try:
        attempt, lost = lab.attempt(row.fault, task.game, task.number, f"{seed} {task.number}")
    except PermissionError as error:
        print(f"{row.fault.name}: left out, it needs root ({error})", flush=True)
        return
    if attempt.note:
        row.games[str(task.game)] += 1
        row.ends[described(attempt.codes)] += 1
    else:
        row.missed += 1
    row.lost.update(lost)
    result, seen = "; ".join(lost) or "nothing lost", attempt.note or "missed"
    print(f"{task.number:4} {row.fault.name}: {task.game} [{seen}] {attempt.codes}: {result}", flush=True)


def main() -> None:
    """Prints a line for each attempt, and the table in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="faults whose name has this text")
    parser.add_argument("--game", choices=[str(game) for game in GAMES], help="this game alone")
    parser.add_argument("--jobs", type=int, default=1, help="attempts at a time")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--keep", type=Path, help="a new folder for all files; by default they are deleted")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows, order = [Row(fault) for fault in FAULTS], defaultdict(list)
    for fault in FAULTS:
        order[fault] = random.Random(f"{asked.seed} {fault.name}").sample(GAMES, len(GAMES))
    if asked.game:
        order = {fault: [next(game for game in GAMES if str(game) == asked.game)] for fault in FAULTS}
    every = [(at, row) for at in range(asked.rounds) for row in rows]
    tasks = [
        Task(row, order[row.fault][at % len(order[row.fault])], number)
        for number, (at, row) in enumerate(every, 1)
        if asked.only in row.fault.name
    ]
    with ExitStack() as stack:
        place = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.mkdir(exist_ok=True)
        place = place.resolve()
        play(tasks, place, asked.jobs, asked.seed)
        secrets = places_with_secret(place)
    print("the password is in: " + (", ".join(secrets) or "no file"))
    if asked.write:
        write(rows, secrets, asked.seed)
    print("\n".join(row.cells() for row in rows if row.games))
    raise SystemExit(bool(secrets) or any(row.lost for row in rows))


if __name__ == "__main__":
    main()
