"""`train()` on Ray: two workers, and later one that is killed, must play the same game as this process without Ray."""

import io
import os
import shlex
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.entities import Run
from PIL import Image
from rich.console import Console

from gan_core import checkpoint, data
from gan_core.health.divergence import DivergedError
from gan_core.loop import Game
from gan_core.settings import SettingsError
from pipelines.runs._folder import RunFolder
from pipelines.settings._experiments import TrainExperiment
from pipelines.train.command import train
from pipelines.train.play import play
from tests.pipelines.small_runs import (
    agree,
    client_of,
    created,
    history,
    listing,
    named,
    resumed,
    rows,
    small_train,
    timeless,
    tracked,
)

SIGTERM_BEFORE = signal.getsignal(signal.SIGTERM)

ROUNDS, LONGER = 6, 66
GAME = (
    "compute.precision=fp64",
    "family.n_critic=2",
    "budget.log_every=1",
    "budget.eval_every=3",
    "budget.checkpoint_every=2",
)


@dataclass(frozen=True)
class Trained:
    """A run of `train()`: what it printed, and what was there when it returned."""

    experiment: TrainExperiment
    folder: RunFolder
    screen: str
    rows: list[dict[str, float]]
    run: Run


def trained(experiment: TrainExperiment, folder: RunFolder) -> Trained:
    screen = io.StringIO()
    train(experiment, folder, Console(file=screen, width=200))
    run = named(client_of(experiment.storage.path), folder.path.name)
    return Trained(experiment, folder, screen.getvalue(), rows(folder.path), run)


@pytest.fixture(scope="module")
def alone(storage, reference) -> RunFolder:
    """The longer game, played in this process without Ray."""
    experiment = small_train(storage, "wgan_gp", "alone", *GAME, f"budget.rounds={LONGER}")
    folder = created(experiment)
    list(play(experiment, folder, reference, target=None))
    return folder


@pytest.fixture(scope="module")
def two(ray_cluster, storage, reference) -> Trained:
    """The game on two workers."""
    words = [*GAME, f"budget.rounds={ROUNDS}", "compute.workers=2"]
    experiment = small_train(storage, "wgan_gp", "game", *words)
    return trained(experiment, created(experiment))


def same_game(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    """Asserts that rows agree, except for the clock and for rounding, as sums have another order."""
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for row, other in zip(map(timeless, found), map(timeless, expected), strict=True):
        for name, value in row.items():
            assert value == pytest.approx(other[name], rel=1e-5 if name == "fid" else 1e-6), (name, row["step"])


def same_picture(path: Path, other: Path) -> bool:
    """Whether no pixel differs by more than one level."""
    one, two = (np.asarray(Image.open(file)).astype(int) for file in (path, other))
    return bool(abs(one - two).max() <= 1)


def test_a_cluster_leaves_the_signals_to_their_owner(ray_cluster):
    """`ray.init` replaces the handler of SIGTERM, and our handler has to be put back."""
    assert signal.getsignal(signal.SIGTERM) == SIGTERM_BEFORE


# Two workers


def test_two_workers_play_the_game_of_one(two, alone):
    assert [row["step"] for row in two.rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in two.rows if "fid" in row] == [3, 6]
    same_game(two.rows, rows(alone.path)[:ROUNDS])


def test_the_pictures_of_two_workers_are_those_of_one(two, alone):
    for step in (3, 6):
        name = f"samples/step-{step:06d}.png"
        assert same_picture(two.folder.path / name, alone.path / name)


def test_the_end_is_said_with_what_to_look_at(two):
    assert f"FID {two.rows[-1]['fid']:.1f} after 6 generator updates" in two.screen
    assert str(two.folder.checkpoint(6)) in two.screen
    assert str(two.folder.path / "samples" / "step-000006.png") in two.screen
    assert "classifier" in two.screen


# Asynchronous evaluation


def test_beside_training_the_same_numbers_come(ray_cluster, storage, alone):
    words = [*GAME, f"budget.rounds={ROUNDS}", "metrics.async=true"]
    experiment = small_train(storage, "wgan_gp", "asynchronous", *words)
    found = trained(experiment, created(experiment))
    same_game(found.rows, rows(alone.path)[:ROUNDS])
    assert history(client_of(storage), found.run).keys() == set(range(1, ROUNDS + 1))
    assert agree(client_of(storage), found.run, found.folder.path)
    assert [path.name for path in found.folder.pictures()] == [f"step-{step:06d}.png" for step in (0, 3, 6)]
    assert "ganfleet.fid.resize" in found.run.data.tags


# MLflow


def test_the_run_in_mlflow(two, storage):
    run = two.run
    assert [same.info.run_id for same in tracked(client_of(storage), id=two.folder.id)] == [run.info.run_id]
    assert run.info.status == "FINISHED"
    assert {"ganfleet.kind": "train", "ganfleet.state": "completed"}.items() <= run.data.tags.items()
    assert run.data.tags["ganfleet.fid.extractor"] == "classifier"
    assert float(run.data.tags["ganfleet.fid.accuracy"]) > 0.9
    assert "mlflow.parentRunId" not in run.data.tags
    params = {
        "family.name": "wgan_gp",
        "family.lr": "0.0001",
        "family.n_critic": "2",
        "data.batch_size": "16",
        "compute.precision": "fp64",
        "compute.workers": "2",
        "budget.rounds": "6",
        "seed": "0",
    }
    assert params.items() <= run.data.params.items()
    assert run.data.metrics["fid"] == two.rows[-1]["fid"]


def test_pictures_and_the_final_checkpoint_are_artifacts(two, storage, tmp_path):
    client = client_of(storage)
    assert listing(client, two.run) == ["checkpoint", "experiment.yaml", "images", "samples"]
    images = [path for path in listing(client, two.run, "images") if path.endswith(".png")]
    assert len(images) >= 2
    for path in images:
        assert Image.open(client.download_artifacts(two.run.info.run_id, path, str(tmp_path))).size == (402, 402)
    there = Path(client.download_artifacts(two.run.info.run_id, "checkpoint", str(tmp_path)))
    game = checkpoint.open_game(there)
    assert game.step >= 6
    text = Path(client.download_artifacts(two.run.info.run_id, "experiment.yaml", str(tmp_path))).read_text()
    assert TrainExperiment.from_yaml(text).family == two.experiment.family


# After the end


def hinted(error: SettingsError, storage: Path) -> TrainExperiment:
    """The experiment that the command in an error's hint would play."""
    option, name, *words = shlex.split(str(error).partition("nearest: ")[2])
    assert option == "--resume"
    return resumed("train", name, storage, *words)[0]


@pytest.mark.parametrize("budget", ["budget.rounds=12", "budget.images=384"])
def test_a_finished_run_is_not_played_again_and_the_hint_is_right(played, storage, tmp_path, budget):
    experiment = small_train(tmp_path, "wgan_gp", "finished", "family.n_critic=2", budget)
    folder = created(experiment)
    shutil.copytree(played.folder.path / "checkpoints", folder.path / "checkpoints")
    with pytest.raises(SettingsError, match="finished, at step 12") as caught:
        train(experiment, folder, Console(quiet=True))
    assert not (folder.path / "metrics.jsonl").exists()
    assert hinted(caught.value, tmp_path).budget.last_round(images_per_round=2 * 16) > 12


def worker_pids() -> set[int]:
    """The process ids of Ray Train's workers, from Ray's list of actors."""
    import ray
    from ray.util.state import list_actors

    here = ray.get_runtime_context().gcs_address  # there may be another cluster on this machine
    found = list_actors(here, filters=[("class_name", "=", "RayTrainWorker"), ("state", "=", "ALIVE")])
    return {actor.pid for actor in found}


def kill_the_worker_after(folder: RunFolder, step: int, killed: list[int]) -> None:
    """Waits for the next worker and for its first row after `step`, then kills the worker with SIGKILL."""
    others, pids = worker_pids(), set()
    while not pids:
        time.sleep(0.1)
        pids = worker_pids() - others
    while rows(folder.path)[-1]["step"] <= step:
        time.sleep(0.01)
    (pid,) = pids
    os.kill(pid, signal.SIGKILL)
    killed.append(pid)


@pytest.fixture(scope="module")
def longer(two, storage) -> tuple[Trained, list[int]]:
    """The same run, resumed with a larger budget on one worker, which is killed once."""
    experiment, folder = resumed("train", "game", storage, f"budget.rounds={LONGER}", "compute.workers=1")
    killed: list[int] = []
    killer = threading.Thread(target=kill_the_worker_after, args=(folder, ROUNDS + 2, killed), daemon=True)
    killer.start()
    result = trained(experiment, folder)
    killer.join(timeout=60)
    return result, killed


def test_a_raised_budget_and_a_killed_worker_leave_the_game_as_it_is(longer, two, alone):
    result, killed = longer
    assert len(killed) == 1, "the worker lived to the end"
    assert [row["step"] for row in result.rows] == list(range(1, LONGER + 1))
    assert result.rows[:ROUNDS] == two.rows
    same_game(result.rows, rows(alone.path))
    assert len(result.folder.checkpoints()) == 3
    for path in result.folder.pictures():
        assert same_picture(path, alone.path / "samples" / path.name)


def test_it_is_still_one_run_in_mlflow_with_each_value_once(longer, two, storage):
    result, _ = longer
    client = client_of(storage)
    assert result.run.info.run_id == two.run.info.run_id
    assert result.run.info.status == "FINISHED"
    assert result.run.data.tags["ganfleet.state"] == "completed"
    assert result.run.data.tags["param_changed.budget.rounds"] == str(LONGER)
    assert agree(client, result.run, result.folder.path)
    assert len(history(client, result.run)) == LONGER
    images = [path for path in listing(client, result.run, "images") if path.endswith(".png")]
    assert len(images) == 1 + LONGER // 3, "one is of the untrained generator"


# Divergence


def test_a_run_that_diverges_ends_failed_in_mlflow(ray_cluster, played, storage):
    experiment = played.experiment.override("name=lost", "budget.rounds=40")
    folder = created(experiment)
    game = Game(played.experiment, data.load(experiment.data).shape)
    checkpoint.load(game, played.folder.checkpoint(12))
    with torch.no_grad():
        next(game.generator.parameters()).view(-1)[0] = float("nan")
    checkpoint.save(game, folder.checkpoint(12))
    with pytest.raises(DivergedError, match="loss/critic is nan at step 13"):
        trained(experiment, folder)
    run = named(client_of(storage), "lost")
    assert run.info.status == "FAILED"
    assert run.data.tags["ganfleet.state"] == "failed"
    assert run.data.metrics == {}
