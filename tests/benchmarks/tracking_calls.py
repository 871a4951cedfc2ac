"""What batching spares MLflow: many runs of many points from several processes, row by row as they are measured, and as
runs are tracked now, brought from the run's folder.

Into SQLite, and through MLflow's server into PostgreSQL. A run is opened, told a row of five metrics at each point, and
ended; an evaluation, where all is brought, comes with every tenth point. Nobody trains in between: the processes ask as
fast as they can. Then every value is looked for in the database itself.

- `calls`, `calls_per_run`, `calls_per_second`: of MLflow's client, in all processes. `points_per_second`: rows.
- `answer_ms`: median and 95% of what somebody else's question takes meanwhile, asked five times a second.
- `fewer_calls`, `faster`: how many times, batched against row by row.

    python tests/benchmarks/tracking_calls.py [--runs 1000] [--points 50] [--processes 4]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import sqlalchemy

from infra.mlflow.follower import Follower
from infra.mlflow.store import client_of
from infra.mlflow.tracker import MlflowTracker, close_run, opened_run, prepare
from infra.tracker import FolderTracker, Trackers
from tests.servers import moto
from tests.tracking_servers import postgres_commands, tracking_server

EVALUATED = 10
"""Points from one evaluation to the next."""
NAMES = ("images_seen", "images_per_second", "loss/critic", "loss/generator", "fid")
CALLS = ("create_run", "get_run", "log_batch", "search_runs", "set_terminated", "update_run")


@dataclass(frozen=True)
class Plan:
    """How much is tracked."""

    runs: int
    points: int
    processes: int


@dataclass(frozen=True)
class Store:
    """Where runs are tracked, and the database behind it."""

    name: str
    uri: str
    database: str


def row(run: int, point: int) -> dict[str, float]:
    """The metrics of a point."""
    return {name: run + point / 64 + number for number, name in enumerate(NAMES)}


def track(way: str, store: Store, experiment: str, run: int, points: int, folder: Path) -> None:
    """One run from its opening to its end."""

    def opened() -> MlflowTracker:
        return MlflowTracker(store.uri, opened_run(store.uri, experiment, {"run": str(run)}, str(run), None, {}, {}))

    if way == "rows":
        tracker = opened()
        for point in range(1, points + 1):
            tracker.metrics(point, row(run, point))
        close_run(store.uri, tracker.run_id, "FINISHED", {}, {})
        return
    follower = Follower(folder, opened)
    both = Trackers([FolderTracker(folder), follower])
    for point in range(1, points + 1):
        both.metrics(point, row(run, point))
        if point % EVALUATED == 0:
            both.flush()
    both.close()
    close_run(store.uri, follower.catch_up().run_id, "FINISHED", {}, {})


def work(way: str, store: Store, experiment: str, runs: range, points: int, folder: str, ready: Any, told: Any) -> None:
    """One process's share of the runs; tells how many calls it made."""
    client, made = client_of(store.uri), 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def ask(*arguments: object, **named: object) -> object:
            nonlocal made
            made += 1
            return call(*arguments, **named)

        return ask

    client.get_experiment(experiment)
    for name in CALLS:
        setattr(client, name, counted(getattr(client, name)))
    ready.wait()
    for run in runs:
        track(way, store, experiment, run, points, Path(folder, str(run)))
    told.put(made)


def measured(way: str, store: Store, plan: Plan) -> dict[str, Any]:
    """Tracks all runs in one way. Raises AssertionError if a value is lost or there twice."""
    experiment = prepare(store.uri, way, Path(tempfile.gettempdir()) if store.uri.startswith("sqlite") else None)
    spawn = multiprocessing.get_context("spawn")
    ready, told = spawn.Barrier(plan.processes + 1), spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        shares = [range(first, plan.runs, plan.processes) for first in range(plan.processes)]
        about = [(way, store, experiment, share, plan.points, folder, ready, told) for share in shares]
        processes = [spawn.Process(target=work, args=arguments) for arguments in about]
        for process in processes:
            process.start()
        ready.wait()
        began = time.monotonic()
        with asked_meanwhile(store.uri, experiment) as answers:
            calls = sum(told.get() for _ in processes)
        seconds = time.monotonic() - began
        for process in processes:
            process.join()
    check(store.database, experiment, plan)
    answers.sort()
    return {
        "seconds": round(seconds, 2),
        "calls": calls,
        "calls_per_run": round(calls / plan.runs, 1),
        "calls_per_second": round(calls / seconds, 1),
        "points_per_second": round(plan.runs * plan.points / seconds, 1),
        "answer_ms": [round(1000 * answers[len(answers) * share // 100], 1) for share in (50, 95)],
    }


@contextmanager
def asked_meanwhile(uri: str, experiment: str) -> Iterator[list[float]]:
    """Asks a question five times a second; gives how long each answer took, in seconds."""
    answers: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.2) or not answers:
            began = time.monotonic()
            client_of(uri).get_experiment(experiment)
            answers.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def check(database: str, experiment: str, plan: Plan) -> None:
    """Looks for every value in the database itself: each once, none more."""
    query = sqlalchemy.text(
        "select runs.name, metrics.key, metrics.step, metrics.value from metrics join runs"
        " on runs.run_uuid = metrics.run_uuid where runs.experiment_id = :experiment and runs.status = 'FINISHED'"
    )
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        found = sorted(tuple(one) for one in connection.execute(query, {"experiment": int(experiment)}))
    engine.dispose()
    wanted = sorted(
        (str(run), name, point, value)
        for run in range(plan.runs)
        for point in range(1, plan.points + 1)
        for name, value in row(run, point).items()
    )
    assert found == wanted, f"{len(found)} values, {len(wanted)} were told"


@contextmanager
def stores() -> Iterator[list[Store]]:
    """SQLite, and MLflow's server before PostgreSQL."""
    programs = postgres_commands()
    assert programs is not None, "needs PostgreSQL, and to be root"
    with tempfile.TemporaryDirectory() as folder, moto(Path(folder)) as s3, tracking_server(s3, programs) as server:
        yield [sqlite_in(Path(folder)), Store("postgresql", server.url, server.database)]


def sqlite_in(folder: Path) -> Store:
    """A new one."""
    uri = f"sqlite:///{folder}/mlflow.db"
    return Store("sqlite", uri, uri)


def told(way: str, store: Store, plan: Plan) -> dict[str, Any]:
    """The same, said on stderr as soon as it is known."""
    found = measured(way, store, plan)
    print(store.name, way, found, file=sys.stderr, flush=True)
    return found


def compared(store: Store, plan: Plan) -> dict[str, Any]:
    """Both ways into one store."""
    batched, rows = told("batched", store, plan), told("rows", store, plan)
    return {
        "rows": rows,
        "batched": batched,
        "fewer_calls": round(rows["calls"] / batched["calls"], 1),
        "faster": round(rows["seconds"] / batched["seconds"], 1),
    }


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--processes", type=int, default=4)
    arguments = parser.parse_args()
    plan = Plan(arguments.runs, arguments.points, arguments.processes)
    with stores() as each:
        found = {store.name: compared(store, plan) for store in each}
    print(json.dumps({**vars(arguments), **found}))


if __name__ == "__main__":
    main()
