"""How long a run stands still when it loses a worker: with Ray Train's watcher of preempted nodes, and without.

Runs of `--workers` workers lose one of them `--kills` times, in turns with and without the watcher, which ganfleet
turns off on a cluster of its own. It prints the seconds from each SIGKILL to the next new row, their medians, and the
ratio of the medians. The ratio counts: seconds depend on the machine, which must be idle otherwise.

    python tests/benchmarks/worker_loss.py [--kills 3] [--rounds 2] [--workers 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from infra.cluster import LOCAL_SETTINGS
from tests.faults.processes import descendants, kill, of_role
from tests.pipelines.small_runs import SMALL, command, environment

(WATCHER,) = LOCAL_SETTINGS
SECONDS = 180.0


def rows(folder: Path) -> int:
    """The logged rows of a run."""
    file = folder / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def wait_for(folder: Path, more_than: int, process: subprocess.Popen) -> float:
    """Waits until a run has more rows. Returns the time."""
    deadline = time.monotonic() + SECONDS
    while rows(folder) <= more_than:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{folder.name} logs no further row")
        time.sleep(0.01)
    return time.monotonic()


def losses(storage: Path, name: str, watcher: str, kills: int, workers: int) -> list[float]:
    """Seconds without a new row after each loss of a worker."""
    folder = storage / name
    settings = (f"name={name}", f"storage.path={storage}", f"compute.workers={workers}", "budget.rounds=1000000")
    every = ("budget.log_every=1", "budget.checkpoint_every=10", "budget.eval_every=1000000")
    process = subprocess.Popen(
        command("train", "wgan_gp", *SMALL, *settings, *every),
        env={**environment(), WATCHER: watcher},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = []
        for _ in range(kills):
            wait_for(folder, rows(folder) + 100, process)
            victims = of_role(process.pid, "worker")
            before, began = rows(folder), time.monotonic()
            kill(victims[-1:])
            while set(victims[-1:]) & descendants(process.pid):  # rows that it wrote while it died do not count
                before = rows(folder)
                if time.monotonic() - began > 5:
                    break
            found.append(wait_for(folder, before + 1, process) - began)
        return found
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    """Prints the seconds of each variant and the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    seconds: dict[str, list[float]] = {"1": [], "0": []}
    with tempfile.TemporaryDirectory() as storage:
        for number in range(asked.rounds):
            for watcher, found in seconds.items():
                name = f"run-{number}-{watcher}"
                found += losses(Path(storage), name, watcher, asked.kills, asked.workers)
                print(f"watcher {'on' if watcher == '1' else 'off'}: {[round(one, 1) for one in found]}", flush=True)
    on, off = (statistics.median(seconds[watcher]) for watcher in ("1", "0"))
    print(f"medians: {on:.1f} s with the watcher, {off:.1f} s without: ratio {off / on:.2f}")


if __name__ == "__main__":
    main()
