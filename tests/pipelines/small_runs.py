"""Small runs, and readers of what they leave behind, which use json, PIL and MLflow's client instead of our code."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from gan_core import checkpoint
from gan_core.measures import Metrics
from pipelines.cli import main
from pipelines.console import STATUS_SECONDS
from pipelines.evaluate.command import EvaluateOptions, evaluate_checkpoint
from pipelines.launch._request import train_experiment
from pipelines.launch._resume import resumed_search, resumed_train
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.settings._experiments import SearchExperiment, TrainExperiment
from pipelines.tracking.retry import UntrackedNote
from pipelines.train.logged_steps import LoggedStep

SMALL = (
    "family.width=4",
    "family.latent=8",
    "data.image_size=8",
    "data.batch_size=16",
    "metrics.samples=200",
)
"""Settings of every image run in the tests. The runs share their reference statistics."""


OWN_GAN = """
from gan_core.families.adversarial.wgan_gp import WganGp

class Own(WganGp):
    pass
"""
"""A module of a user, `own_gan`, whose family `Own` plays as `wgan_gp`."""


DIVERGING = (
    "data.name=ring8",
    "family.lr=1",
    "family.beta1=0.5",
    "family.beta2=0",
    "family.n_critic=1",
    "family.latent=100",
)
"""Settings with which `gan` diverges: Adam with beta2=0 divides by each gradient. No seed of ten got past step 14."""


def small_train(storage: Path, family: str, name: str, *assignments: str) -> TrainExperiment:
    return train_experiment([family], [*SMALL, f"name={name}", f"storage.path={storage}", *assignments])


def small_search(storage: Path, families: Sequence[str], name: str, *assignments: str) -> SearchExperiment:
    """A search without confirmation, unless a test asks for it."""
    where = [f"name={name}", f"storage.path={storage}"]
    return search_experiment(families, [*SMALL, *where, "search.confirm=0", *assignments])


def created(experiment: TrainExperiment | SearchExperiment) -> RunFolder:
    """The run's folder, as the command line makes it."""
    folder = RunFolder(experiment.folder)
    folder.create(experiment.to_yaml())
    return folder


def resumed(
    kind: str, name: str, storage: Path, *assignments: str
) -> tuple[TrainExperiment | SearchExperiment, RunFolder]:
    """What `ganfleet KIND --resume NAME` resumes. The experiment file is written as the command does."""
    resume = {"train": resumed_train, "search": resumed_search}[kind]
    experiment, folder = resume(name, [f"storage.path={storage}", *assignments])
    folder.experiment.write_text(experiment.to_yaml())
    return experiment, folder


@dataclass(frozen=True)
class PlayedRun:
    """A run that `play()` has played to its end."""

    experiment: TrainExperiment
    folder: RunFolder
    steps: list[LoggedStep]


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} in a file of ours")


def rows(folder: Path) -> list[dict]:
    """The lines of `metrics.jsonl`, none of them NaN or infinite."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=_refuse) for line in lines]


def digest(folder: Path) -> str:
    """The digest of all state of the game in a checkpoint."""
    return hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest()


def table(folder: Path, name: str = "trials") -> list[dict[str, str]]:
    """The rows of a search's CSV file."""
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def timeless(row: Mapping[str, float]) -> dict[str, float]:
    """A row without what depends on the clock."""
    return {name: value for name, value in row.items() if name != "images_per_second"}


def client_of(storage: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{storage}/mlflow.db")


def tracked(client: MlflowClient, **tags: str) -> list[Run]:
    """The runs in MLflow with these tags (`kind="trial"` is the tag `ganfleet.kind`), oldest first."""
    experiment = client.get_experiment_by_name("ganfleet")
    wanted = " and ".join(f"tags.`ganfleet.{name}` = '{value}'" for name, value in tags.items())
    return client.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time ASC"])


def named(client: MlflowClient, name: str) -> Run:
    """The one run of that name."""
    experiment = client.get_experiment_by_name("ganfleet")
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return run


def history(client: MlflowClient, run: Run) -> dict[int, dict[str, float]]:
    """Every value that MLflow holds of a run, by step and metric. Asserts that there is one of each. System metrics are
    left out, because they have their own steps."""
    found: dict[int, dict[str, float]] = {}
    for name in (name for name in run.data.metrics if not name.startswith("system/")):
        for metric in client.get_metric_history(run.info.run_id, name):
            row = found.setdefault(metric.step, {})
            assert name not in row, f"{name} has two values at step {metric.step} of {run.info.run_name}"
            row[name] = metric.value
    return found


def agree(client: MlflowClient, run: Run, folder: Path) -> bool:
    """Whether MLflow's history is the same as `metrics.jsonl`. Speeds are not compared: a step that is played again
    after a crash has another speed in the file than in MLflow."""
    ours = {row["step"]: timeless(row) for row in rows(folder)}
    theirs = {step: timeless({"step": step, **row}) for step, row in history(client, run).items()}
    return ours == theirs


def listing(client: MlflowClient, run: Run, path: str | None = None) -> list[str]:
    """The names of a run's artifacts below `path`."""
    return sorted(item.path for item in client.list_artifacts(run.info.run_id, path))


def command(*words: object) -> list[str]:
    """`ganfleet` as a user types it."""
    return [sys.executable, "-m", "pipelines.cli", *map(str, words)]


def environment() -> dict[str, str]:
    """The environment of a command: no cluster except its own, and a screen wide enough for one line."""
    return {**{key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}, "COLUMNS": "200"}


def ganfleet(cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, in the working folder `cwd`."""
    return subprocess.run(command(*words), cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


def ganfleet_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process, and restores its signal handlers and streams. It shows no progress, which it
    would on a slow machine only."""
    monkeypatch.setattr("pipelines.console.SILENT_SECONDS", STATUS_SECONDS)
    monkeypatch.setattr(sys, "argv", ["ganfleet", *map(str, words)])
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    return subprocess.CompletedProcess(words, exit_code_here(), *capsys.readouterr())


def exit_code_here() -> int:
    """Runs the command of `sys.argv` in this process, and restores its signal handlers: a command ignores signals in
    the end, and what this process starts later would ignore them too."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def evaluated(folder: Path, storage: Path, *metrics: str, resampled: bool = False) -> dict[str, Any]:
    """The result of `ganfleet evaluate` for a checkpoint, with other settings below `metrics.`."""
    settings = Metrics.load(checkpoint.describe(folder)["experiment"]["metrics"]).override(*metrics)
    return evaluate_checkpoint(folder, settings, EvaluateOptions(storage, Console(quiet=True), resampled))


def owing(played: PlayedRun, name: str, *changes: str) -> tuple[TrainExperiment, RunFolder]:
    """A copy of a run, left as its driver was killed before MLflow had anything of it."""
    experiment = played.experiment.override(f"name={name}", *changes)
    folder = created(experiment)
    for inside in ("checkpoints", "samples"):
        shutil.copytree(played.folder.path / inside, folder.path / inside)
    for file in ("metrics.jsonl", "times.jsonl"):
        shutil.copy(played.folder.path / file, folder.path)
    UntrackedNote(folder).write({"ganfleet.fid.extractor": "classifier"})
    return experiment, folder


def pictures(client: MlflowClient, run: Run) -> list[int]:
    """The steps of a run's sample grids in MLflow, one for each picture."""
    paths = [path for path in listing(client, run, "images") if path.endswith(".png")]
    return sorted(int(path.split("+step+")[1].split("+")[0]) for path in paths)


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


class Death:
    """Ends this process's talk with MLflow at one of its calls: this call and all later ones raise `Killed`."""

    CALLS = (
        "create_run",
        "update_run",
        "log_batch",
        "log_inputs",
        "set_tag",
        "log_artifact",
        "log_artifacts",
        "set_terminated",
    )
    REGISTRY = ("create_registered_model", "create_model_version")

    def __init__(self, patch: pytest.MonkeyPatch, call: int | None = None) -> None:
        self.calls: list[str] = []
        for name in (*self.CALLS, *self.REGISTRY):
            patch.setattr(MlflowClient, name, self._counted(name, getattr(MlflowClient, name), call))

    def _counted(self, name: str, real: Callable[..., Any], last: int | None) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self.calls.append(name)
            if last is not None and len(self.calls) > last:
                raise Killed
            return real(*args, **more)

        return call
