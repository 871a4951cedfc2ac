"""What a training run, a search and their resumptions leave behind: files, columns, and names in MLflow.

`played.json` was recorded before the packages were moved. Numbers are left out: they differ between processors.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("played.json")
TINY = (
    *("family.width=4", "family.latent=8", "data.image_size=8", "data.batch_size=16", "metrics.samples=100"),
    *("metrics.extractor=pixels", "budget.log_every=2", "budget.eval_every=2", "budget.checkpoint_every=2"),
)
LINES = (
    ("train", "wgan_gp", "name=run", *TINY, "family.n_critic=1", "budget.rounds=4", "compute.workers=2"),
    ("train", "--resume", "run", "budget.rounds=6", "compute.workers=2"),
    (
        *("search", "gan", "wgan_gp", "name=hunt", *TINY, "budget.rounds=4", "search.trials=4", "search.confirm=1"),
        *("search.confirm_seeds=2", "search.sampler=random", "search.scheduler=none"),
    ),
    ("search", "--resume", "hunt", "search.trials=5"),
    ("evaluate", "run", "--json", "fid.json"),
    ("sample", "hunt"),
)
"""Played one after the other in one folder, on one cluster."""

_RANDOM = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b")


def play(folder: Path) -> list[int]:
    """Plays `LINES` in this process, which has joined a cluster. Returns the exit codes."""
    from tests.pipelines.small_runs import exit_code_here

    codes = []
    with _inside(folder):
        for line in LINES:
            sys.argv = ["ganfleet", *line]
            codes.append(exit_code_here())
    return codes


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before, argv = Path.cwd(), sys.argv
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.argv = argv


def left_behind(folder: Path) -> dict[str, Any]:
    """What is recorded of the folder after `play`."""
    return {
        "files": sorted({_named(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {""}),
        "rows": {name: _columns(folder / "runs" / name / "metrics.jsonl") for name in ("run",)},
        "tables": {path.name: _header(path) for path in sorted((folder / "runs" / "hunt").glob("*.csv"))},
        "best": sorted(json.loads((folder / "runs" / "hunt" / "best.json").read_text())),
        "evaluation": sorted(json.loads((folder / "fid.json").read_text())),
        "mlflow": _tracked(folder / "runs" / "mlflow.db"),
    }


def _named(path: Path) -> str:
    """A file's path; what names itself at random, or is Ray's own, is told by its folder."""
    text = path.as_posix()
    if re.match(r"runs/(run/ray|hunt/(confirm/)?tune|mlartifacts)/", text):
        return ""
    return re.sub(r"-[0-9a-f]{32}\b", "-DIGEST", _RANDOM.sub("RANDOM", text))


def _columns(rows: Path) -> dict[str, list[str]]:
    """The metrics of each logged step."""
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    return {str(line["step"]): sorted(line) for line in lines}


def _header(table: Path) -> list[str]:
    with table.open(newline="") as file:
        return next(csv.reader(file))


def _tracked(database: Path) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    (experiment,) = (one for one in client.search_experiments() if one.name != "Default")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    models = [
        [model.name, len(client.search_model_versions(f"name='{model.name}'"))]
        for model in client.search_registered_models()
    ]
    return {
        "experiment": experiment.name,
        "models": models,
        "runs": {run.info.run_name: _run(client, run) for run in sorted(runs, key=lambda run: run.info.run_name)},
    }


def _run(client: Any, run: Any) -> dict[str, Any]:
    steps = {
        name: sorted({metric.step for metric in client.get_metric_history(run.info.run_id, name)})
        for name in run.data.metrics
        if not name.startswith("system/")
    }
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    return {
        "status": run.info.status,
        "params": dict(sorted(run.data.params.items())),
        "tags": dict(sorted((key, _plain(key, value)) for key, value in tags.items())),
        "metrics": dict(sorted(steps.items())),
        "artifacts": _artifacts(client, run.info.run_id),
    }


def _plain(key: str, value: str) -> str:
    """A tag's value, or what stands for a value that is random, a number, or of this machine."""
    kept = ("ganfleet.kind", "ganfleet.state", "ganfleet.trial", "ganfleet.search", "ganfleet.seed", "ganfleet.seeds")
    return value if key in kept else "..."


def _artifacts(client: Any, run: str, path: str | None = None) -> list[str]:
    found: list[str] = []
    for item in client.list_artifacts(run, path):
        found += _artifacts(client, run, item.path) if item.is_dir else [item.path]
    # Which trials are the best at which moment, and so the steps of a search's grids, depends on the machine.
    stamp = re.compile(r"step\W\d+(\Wtimestamp(\W\d+\W[0-9a-f-]{36})?)?")
    return sorted({stamp.sub("step+N", name) for name in found})
