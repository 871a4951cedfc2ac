"""What a search costs beyond its trials' training, and what of it grows with the number of trials.

One search of single-worker trials of about a second each, one at a time, without early stopping. A trial's own time is
what its rows say it trained; evaluations, pictures, checkpoints, MLflow and Ray are all overhead.

- `beyond_training_seconds`: the whole command less all trials' own time.
- `search_overhead_seconds`: of that, what each further trial costs taken away: Ray's start and end, the first actor,
  MLflow's database, pictures. `further_trial_overhead`: the median over trials after the first three.
- `database_seconds`: what making an MLflow database takes (by itself, in this process). Once a machine: the search
  begins with a copy.
- `evaluation_seconds`: what measuring one FID takes (by itself, in this process, one thread); a trial has two.
- `growth`: overhead of a trial in the last quarter over that in the second quarter; 1 if nothing grows.
- `driver_rss_mb`: of the driver after a tenth, a half and all of the trials.

    python tests/benchmarks/search_overhead.py [--trials 200] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from rich.console import Console

from gan_core import checkpoint, data
from gan_core.files import cache_folder
from gan_core.metrics.scores import scores
from gan_core.metrics.statistics.reference import Reference
from infra.mlflow.store import prepare
from pipelines.console import quiet
from pipelines.evaluate.reference import prepare_reference
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.search.command import search
from pipelines.settings._experiments import SearchExperiment

ROUNDS, WARM_UP = 40, 3


def asked(storage: str, trials: int) -> SearchExperiment:
    """Trials of about a second on one core."""
    return search_experiment(
        ["wgan_gp"],
        [
            *("name=overhead", f"storage.path={storage}", f"search.trials={trials}", "search.max_concurrent=1"),
            *("search.scheduler=none", "search.sampler=random", "search.confirm=0", "family.n_critic=2"),
            *(f"budget.rounds={ROUNDS}", f"budget.log_every={ROUNDS // 2}", f"budget.eval_every={ROUNDS // 2}"),
        ],
    )


def training_seconds(rows: Path) -> float:
    """Seconds that a trial spent in its training loop, by its own metrics."""
    seen, spent = 0, 0.0
    for row in map(json.loads, rows.read_text().splitlines()):
        spent += (row["images_seen"] - seen) / row["images_per_second"]
        seen = row["images_seen"]
    return spent


class Memory(threading.Thread):
    """Samples this process's resident memory, in MB, with the number of trials that have begun."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(daemon=True)
        self.folder, self.over = folder, threading.Event()
        self.samples: list[tuple[int, float]] = []

    def run(self) -> None:
        while not self.over.wait(0.5):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            begun = sum(1 for _ in self.folder.path.glob("trials/*"))
            self.samples.append((begun, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def at(self, trials: int) -> float:
        """When so many trials had begun; the last sample if there were never as many."""
        return round(next((mb for begun, mb in self.samples if begun >= trials), self.samples[-1][1]), 1)


def evaluation_seconds(experiment: SearchExperiment, content: bytes, trial: RunFolder) -> float:
    """The median over five evaluations of a trial's newest checkpoint."""
    torch.set_num_threads(1)
    game = checkpoint.open_game(trial.checkpoints()[-1])
    reference = Reference.from_bytes(content, data.load(experiment.data))
    found = []
    for _ in range(5):
        began = time.perf_counter()
        scores(game, reference)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def database_seconds(folder: Path) -> float:
    """What MLflow takes to make a database. One is kept for later then."""
    began = time.perf_counter()
    prepare(f"sqlite:///{folder}/made/mlflow.db", "ganfleet", folder)
    seconds = time.perf_counter() - began
    prepare(f"sqlite:///{folder}/kept/mlflow.db", "ganfleet", folder, cache_folder() / "schemas")
    return seconds


def measured(trials: int, profiled: bool) -> dict[str, Any]:
    """Runs the search and says what it cost."""
    with tempfile.TemporaryDirectory() as storage:
        experiment = asked(storage, trials)
        where = (experiment.metrics, data.load(experiment.data), experiment.storage.path)
        shared_reference = prepare_reference(*where, Console(quiet=True))
        folder = RunFolder(experiment.folder)
        folder.create(experiment.to_yaml())
        database = database_seconds(Path(storage))
        memory, profile = Memory(folder), cProfile.Profile()
        memory.start()
        began = time.time()
        with quiet(folder.ray_log):
            if profiled:
                profile.enable()
            search(experiment, folder, Console(quiet=True))
            profile.disable()
        wall = time.time() - began
        memory.over.set()
        memory.join()
        files = sorted(folder.path.glob("trials/*/metrics.jsonl"))
        evaluation = evaluation_seconds(experiment, shared_reference.content, RunFolder(files[-1].parent))
        ends, loops = [file.stat().st_mtime for file in files], [training_seconds(file) for file in files]
    if profiled:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("cumulative").print_stats(60)
    over = [b - a - loop for a, b, loop in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], loops[WARM_UP:], strict=False)]
    further, quarter = statistics.median(over), len(over) // 4
    return {
        "trials": len(files),
        "wall_seconds": round(wall, 1),
        "training_seconds": round(sum(loops), 1),
        "beyond_training_seconds": round(wall - sum(loops), 1),
        "training_of_a_trial": round(statistics.median(loops), 3),
        "further_trial_overhead": round(further, 3),
        "evaluation_seconds": round(evaluation, 3),
        "database_seconds": round(database, 1),
        "search_overhead_seconds": round(wall - sum(loops) - further * len(files), 1),
        "growth": round(statistics.median(over[-quarter:]) / statistics.median(over[quarter : 2 * quarter]), 2),
        "driver_rss_mb": [
            memory.at(max(trials // 10, WARM_UP)),
            memory.at(trials // 2),
            round(memory.samples[-1][1], 1),
        ],
    }


def main() -> None:
    """Prints one line of JSON; with --profile where the driver's time went, on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps(measured(arguments.trials, arguments.profile)))


if __name__ == "__main__":
    main()
