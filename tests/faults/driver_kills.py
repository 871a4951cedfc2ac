"""A search whose driver is killed again and again comes to the same end as one that is left alone.

The driver of a search of `--trials` tiny trials gets SIGKILL at `--kills` random moments, each time followed by
`ganfleet search --resume NAME`. Then it is compared with the undisturbed search of the same seed: the same trials with
the same settings, none lost, none twice, one MLflow run each, one value for each metric and step, the same winner.

    python tests/faults/driver_kills.py [--kills 10] [--trials 12] [--seed 0] [--workers 1]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from mlflow import MlflowClient

from pipelines.runs._folder import RunFolder
from tests.faults.processes import descendants, gone
from tests.pipelines.small_runs import (
    SMALL,
    client_of,
    command,
    environment,
    history,
    named,
    rows,
    table,
    timeless,
    tracked,
)

ROUNDS, EVERY = 200, 20


def words(name: str, storage: Path, trials: int, *settings: str) -> list[str]:
    """The command of a search whose trials and end do not depend on timing."""
    return [
        *("search", "wgan_gp", *SMALL, f"name={name}", f"storage.path={storage}", f"search.trials={trials}"),
        *("search.scheduler=none", "search.sampler=random", "search.confirm=0", "family.n_critic=1"),
        *(f"budget.rounds={ROUNDS}", f"budget.eval_every={EVERY}", f"budget.log_every={EVERY // 2}", *settings),
    ]


def kill_at(arguments: list[str], cwd: Path, journal: Path, evaluations: int, delay: float) -> tuple[bool, float]:
    """Runs a command; SIGKILL of it alone `delay` seconds after its journal has so many evaluations.

    Returns whether it was still running then, and how long its workers outlived it."""
    with (cwd / "out").open("a") as out:
        process = subprocess.Popen(command(*arguments), cwd=cwd, env=environment(), stdout=out, stderr=out)
    while process.poll() is None and evaluated(journal) < evaluations:
        time.sleep(0.02)
    deadline = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    below = descendants(process.pid)
    if process.poll() is not None:
        return False, 0.0
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True, gone(below)


def evaluated(journal: Path) -> int:
    """The evaluations in a search's journal."""
    return journal.read_text().count('"fid"') if journal.is_file() else 0


def finish(arguments: list[str], cwd: Path) -> None:
    """Runs a command to its end."""
    done = subprocess.run(command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def ended(folder: Path) -> list[dict[str, str]]:
    """trials.csv by trial, without what depends on the clock or the place."""
    found = [{k: v for k, v in row.items() if k not in ("images_per_second", "checkpoint")} for row in table(folder)]
    return sorted(found, key=lambda row: row["trial"])


def differences(disturbed: Path, quiet: Path, client: MlflowClient, trials: int) -> list[str]:
    """What is not as it is in the undisturbed search."""
    wrong = []
    ours, theirs = ended(disturbed), ended(quiet)
    if len({row["trial"] for row in ours}) != trials or len(ours) != trials:
        wrong.append(f"{len(ours)} rows of {trials} trials")
    wrong += [f"{a['trial']}: {a} was {b}" for a, b in zip(ours, theirs, strict=False) if a != b]
    best = [json.loads((folder / "best.json").read_text())["trial"] for folder in (disturbed, quiet)]
    if best[0] != best[1]:
        wrong.append(f"the winner is {best[0]}, was {best[1]}")
    wrong += _in_files(disturbed, quiet)
    return wrong + _in_mlflow(disturbed, client, trials)


def _in_files(disturbed: Path, quiet: Path) -> list[str]:
    wrong = []
    for folder in sorted((disturbed / "trials").iterdir()):
        mine, right = ([timeless(row) for row in rows(one)] for one in (folder, quiet / "trials" / folder.name))
        if mine != right:
            wrong.append(f"{folder.name}: rows differ")
        if len(RunFolder(folder).checkpoints()) != 1:
            wrong.append(f"{folder.name}: {len(RunFolder(folder).checkpoints())} checkpoints")
    return wrong


def _in_mlflow(disturbed: Path, client: MlflowClient, trials: int) -> list[str]:
    children = tracked(client, kind="trial", search=disturbed.name)
    wrong = [] if len(children) == trials else [f"{len(children)} runs in MLflow"]
    if named(client, disturbed.name).info.status != "FINISHED":
        wrong.append("the parent run is not finished")
    for child in children:
        trial = child.data.tags["ganfleet.trial"]
        try:
            values = history(client, child)
        except AssertionError as error:
            wrong.append(str(error))
            continue
        ours = {row["step"]: timeless(row) for row in rows(disturbed / "trials" / trial)}
        if {step: timeless({"step": step, **row}) for step, row in values.items()} != ours:
            wrong.append(f"{trial}: MLflow differs from metrics.jsonl")
        if child.info.status != "FINISHED":
            wrong.append(f"{trial}: {child.info.status}")
    return wrong


def played(journal: Path) -> tuple[float, float]:
    """Seconds until a search's first trial and from there to its end, by its journal."""
    seconds = [json.loads(line)["seconds"] for line in journal.read_text().splitlines()]
    return seconds[0], seconds[-1] - seconds[0]


def disturb(storage: Path, kills: int, trials: int, seed: int, *settings: str) -> dict[str, Any]:
    """Both searches. Returns what was seen; `wrong` is empty if all is well."""
    draw = random.Random(seed)
    finish(words("quiet", storage, trials, *settings), storage)
    starting, playing = played(storage / "quiet" / "journal.jsonl")
    whole, disturbed = evaluated(storage / "quiet" / "journal.jsonl"), storage / "disturbed"
    resume = ["search", "--resume", "disturbed", f"storage.path={storage}"]
    hit, outlived = 0, []
    while hit < kills:
        begin = resume if (disturbed / "experiment.yaml").is_file() else words("disturbed", storage, trials, *settings)
        if hit % 4 == 3:  # while Ray starts, or before
            when = (0, draw.uniform(0, starting))
        else:  # by the journal, not by the clock: a machine may be busier or less so than before
            share = draw.uniform(hit, hit + 1) / (kills + 1)
            when = (int(share * whole), draw.uniform(0, playing / whole))
        killed, seconds = kill_at(begin, storage, disturbed / "journal.jsonl", *when)
        if not killed:
            break
        hit += 1
        outlived.append(seconds)
    finish(resume, storage)
    return {
        "kills": hit,
        "trials": trials,
        "workers_outlived_seconds": round(max(outlived, default=0.0), 2),
        "seconds_undisturbed": [round(starting, 1), round(playing, 1)],
        "wrong": differences(disturbed, storage / "quiet", client_of(storage), trials),
    }


def main() -> None:
    """Prints one line of JSON; exit code 1 if anything is wrong, or the search ended before all kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as storage:
        workers = f"compute.workers={asked.workers}"
        result = disturb(Path(storage), asked.kills, asked.trials, asked.seed, workers)
    print(json.dumps(result))
    raise SystemExit(bool(result["wrong"]) or result["kills"] < asked.kills)


if __name__ == "__main__":
    main()
