"""How long a run stands still when it loses a worker, as a share of how long the command took to begin.

Runs of `--workers` workers lose one of them `--kills` times. It prints the seconds from the command to its first row,
those from each SIGKILL to the next new row, and the ratio of their medians. The ratio counts: seconds depend on the
machine, which must be idle otherwise.

    python tests/benchmarks/worker_loss.py [--kills 3] [--rounds 3] [--workers 1]
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

from tests.faults.processes import descendants, kill, of_role
from tests.pipelines.small_runs import SMALL, command, environment

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


def losses(storage: Path, name: str, kills: int, workers: int) -> tuple[float, list[float]]:
    """Seconds to a run's first row, and seconds without a new row after each loss of a worker."""
    folder = storage / name
    settings = (f"name={name}", f"storage.path={storage}", f"compute.workers={workers}", "budget.rounds=1000000")
    every = ("budget.log_every=1", "budget.checkpoint_every=10", "budget.eval_every=1000000")
    began = time.monotonic()
    process = subprocess.Popen(
        command("train", "wgan_gp", *SMALL, *settings, *every),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        start, found = wait_for(folder, 0, process) - began, []
        for _ in range(kills):
            wait_for(folder, rows(folder) + 100, process)
            victims = set(of_role(process.pid, "worker")[-1:])
            killed = time.monotonic()
            kill(victims)
            while victims & descendants(process.pid) and time.monotonic() - killed < 5:
                time.sleep(0.01)  # rows that it writes while it dies do not count
            found.append(wait_for(folder, rows(folder), process) - killed)
        return start, found
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    """Prints the seconds of each run and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3, choices=(1, 2, 3), help="a group is restarted three times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    starts: list[float] = []
    lost: list[float] = []
    with tempfile.TemporaryDirectory() as storage:
        for number in range(asked.rounds):
            start, found = losses(Path(storage), f"run-{number}", asked.kills, asked.workers)
            starts.append(start)
            lost += found
            print(f"first row after {start:.1f} s; lost {[round(one, 1) for one in found]}", flush=True)
    begun, stood = statistics.median(starts[1:] or starts), statistics.median(lost)  # the first run fills the caches
    print(f"medians: {begun:.1f} s to begin, {stood:.1f} s a loss: ratio {stood / begun:.2f}")


if __name__ == "__main__":
    main()
