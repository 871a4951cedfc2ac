"""What one more single-worker trial costs a search beyond its training loop, in steady state.

Two searches of different length on one cluster, one trial at a time; the slope between them is a trial's wall time,
free of the start-up of Ray and of the actor. A trial's own loop time is what its metrics say it trained.

    python tests/benchmarks/trial_overhead.py
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from rich.console import Console

from infra.cluster import cluster
from pipelines.runs import RunFolder
from pipelines.screen import quiet
from pipelines.search import search
from pipelines.settings import search_experiment

SHORT, LONG = 4, 16
ROUNDS = 40


def trials_of(folder: RunFolder) -> list[float]:
    """Seconds that each trial spent in its training loop, by its own metrics."""
    seconds = []
    for rows in sorted(folder.path.glob("trials/*/metrics.jsonl")):
        seen, spent = 0, 0.0
        for row in map(json.loads, rows.read_text().splitlines()):
            spent += (row["images_seen"] - seen) / row["images_per_second"]
            seen = row["images_seen"]
        seconds.append(spent)
    return seconds


def main() -> None:
    """Prints one line of JSON."""
    with tempfile.TemporaryDirectory() as storage:
        walls, loops = {}, {}
        with quiet(Path(storage) / "log") as screen, cluster():
            for trials in (1, SHORT, LONG):
                experiment = search_experiment(
                    ["wgan_gp"],
                    [
                        f"name=of-{trials}",
                        f"storage.path={storage}",
                        f"search.trials={trials}",
                        "search.max_concurrent=1",
                        "search.scheduler=none",
                        "family.n_critic=2",
                        f"budget.rounds={ROUNDS}",
                        f"budget.log_every={ROUNDS // 4}",
                        f"budget.eval_every={ROUNDS // 2}",
                    ],
                )
                folder = RunFolder(experiment.folder)
                folder.create(experiment.to_yaml())
                began = time.perf_counter()
                search(experiment, folder, Console(quiet=True), resume=False)
                walls[trials], loops[trials] = time.perf_counter() - began, trials_of(folder)
                screen.print(f"{trials} trials: {walls[trials]:.1f} s")
    wall = (walls[LONG] - walls[SHORT]) / (LONG - SHORT)
    loop = sum(loops[LONG]) / LONG
    result = {
        "seconds_per_further_trial": round(wall, 3),
        "its_training_loop": round(loop, 3),
        "overhead_seconds": round(wall - loop, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
