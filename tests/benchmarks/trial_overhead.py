"""What one more single-worker trial costs a search beyond its training loop, in steady state.

One search, one trial at a time, without early stopping. The wall time of a trial is the time between the last rows of
two trials that follow each other, so the start of Ray and of the actor is not in it; its own loop time is what its
metrics say it trained. Printed are medians over all trials but the first three.

    python tests/benchmarks/trial_overhead.py
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from rich.console import Console

from infra.cluster import cluster
from pipelines.runs import RunFolder
from pipelines.screen import quiet
from pipelines.search import search
from pipelines.settings import search_experiment

TRIALS, ROUNDS, WARM_UP = 20, 40, 3


def loop_seconds(rows: Path) -> float:
    """Seconds that a trial spent in its training loop, by its own metrics."""
    seen, spent = 0, 0.0
    for row in map(json.loads, rows.read_text().splitlines()):
        spent += (row["images_seen"] - seen) / row["images_per_second"]
        seen = row["images_seen"]
    return spent


def main() -> None:
    """Prints one line of JSON."""
    with tempfile.TemporaryDirectory() as storage:
        experiment = search_experiment(
            ["wgan_gp"],
            [
                "name=overhead",
                f"storage.path={storage}",
                f"search.trials={TRIALS}",
                "search.max_concurrent=1",
                "search.scheduler=none",
                "search.confirm=0",
                "family.n_critic=2",
                f"budget.rounds={ROUNDS}",
                f"budget.log_every={ROUNDS // 4}",
                f"budget.eval_every={ROUNDS // 2}",
            ],
        )
        folder = RunFolder(experiment.folder)
        folder.create(experiment.to_yaml())
        with quiet(folder.log), cluster():
            search(experiment, folder, Console(quiet=True))
        rows = sorted(folder.path.glob("trials/*/metrics.jsonl"), key=lambda path: path.stat().st_mtime)
        ends, loops = [path.stat().st_mtime for path in rows], [loop_seconds(path) for path in rows]
    walls = [after - before for before, after in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    over = [wall - loop for wall, loop in zip(walls, loops[WARM_UP:], strict=True)]
    result = {
        "trials": len(walls),
        "seconds_per_further_trial": round(statistics.median(walls), 3),
        "its_training_loop": round(statistics.median(loops[WARM_UP:]), 3),
        "overhead_seconds": round(statistics.median(over), 3),
        "overhead_worst": round(max(over), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
