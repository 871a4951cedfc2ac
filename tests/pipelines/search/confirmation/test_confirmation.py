"""Confirmation: the best settings of a search are played with fresh seeds. Reported numbers are recomputed from the
runs' files with NumPy."""

import io
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from rich.console import Console

from gan_core.settings import SettingsError
from pipelines.launch._request import CommandLine, Request, train_request
from pipelines.runs._folder import RunFolder
from pipelines.runs._lookup import find_checkpoint
from pipelines.search.command import search
from pipelines.settings._experiments import SearchExperiment, TrainExperiment
from pipelines.settings._storage import Storage
from pipelines.train.command import train
from pipelines.train.play import play
from tests.pipelines.small_runs import (
    SMALL,
    agree,
    client_of,
    command,
    created,
    environment,
    evaluated,
    ganfleet,
    listing,
    named,
    resumed,
    rows,
    small_search,
    table,
    timeless,
    tracked,
)

NAME, ROUNDS, EVERY = "sure", 20, 5


@dataclass(frozen=True)
class Sure:
    """A search that has ended, with its files and MLflow runs at that moment."""

    experiment: SearchExperiment
    folder: RunFolder
    screen: str
    trials: list[dict[str, str]]
    table: list[dict[str, str]]
    best: dict
    parent: Run
    children: dict[str, Run]
    """The confirmation runs by `TRIAL-SEED`."""
    versions: list[ModelVersion]

    @property
    def seeds(self) -> list[int]:
        return [int(name.removeprefix("fid_")) for name in self.table[0] if name.startswith("fid_")]

    def run(self, trial: str, seed: int) -> RunFolder:
        return RunFolder(self.folder.path / "confirm" / "trials" / f"{trial}-{seed}")


def ended(client: MlflowClient, experiment: SearchExperiment, folder: RunFolder) -> Sure:
    screen = io.StringIO()
    search(experiment, folder, Console(file=screen, width=200))
    tables = [table(folder.path, name) for name in ("trials", "confirmed")]
    children = tracked(client, kind="confirm", search=NAME)
    by_id = {run.info.run_name.rpartition("/")[2]: run for run in children}
    assert len(by_id) == len(children), "a confirmed run that is tracked twice"
    best = json.loads((folder.path / "best.json").read_text())
    versions = sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda one: int(one.version))
    return Sure(experiment, folder, screen.getvalue(), *tables, best, named(client, NAME), by_id, versions)


@pytest.fixture(scope="module")
def client(storage) -> MlflowClient:
    return client_of(storage)


@pytest.fixture(scope="module")
def sure(ray_cluster, storage, reference, client) -> Sure:
    """Three trials, some stopped early; the best two are confirmed with two seeds."""
    experiment = small_search(
        storage,
        ["wgan_gp"],
        NAME,
        "search.trials=3",
        "search.sampler=random",
        "search.confirm=2",
        "search.confirm_seeds=2",
        "family.n_critic=1",
        f"budget.rounds={ROUNDS}",
        f"budget.eval_every={EVERY}",
        f"budget.log_every={EVERY}",
    )
    return ended(client, experiment, created(experiment))


def fids(run: RunFolder) -> list[float]:
    return [row["fid"] for row in rows(run.path) if "fid" in row]


def test_the_best_two_are_played_with_each_seed_to_the_end(sure):
    assert [one["trial"] for one in sure.trials[:2]] == sorted(
        (one["trial"] for one in sure.table), key=[one["trial"] for one in sure.trials].index
    )
    assert len(sure.seeds) == len(set(sure.seeds)) == 2
    assert sure.experiment.seed not in sure.seeds
    found = {path.name for path in (sure.folder.path / "confirm" / "trials").iterdir()}
    assert found == {f"{one['trial']}-{seed}" for one in sure.table for seed in sure.seeds}
    for one in sure.table:
        searched = TrainExperiment.from_yaml(sure.folder.trial(one["trial"]).experiment.read_text())
        for seed in sure.seeds:
            run = sure.run(one["trial"], seed)
            experiment = TrainExperiment.from_yaml(run.experiment.read_text())
            assert experiment == searched.model_copy(update={"seed": seed})
            assert [row["step"] for row in rows(run.path)] == list(range(EVERY, ROUNDS + 1, EVERY))


def test_mean_and_spread_are_those_of_the_runs_own_rows(sure):
    for one in sure.table:
        runs = [fids(sure.run(one["trial"], seed)) for seed in sure.seeds]
        final, lowest = np.array([run[-1] for run in runs]), np.array([min(run) for run in runs])
        for seed, run in zip(sure.seeds, runs, strict=True):
            assert (float(one[f"fid_{seed}"]), float(one[f"best_fid_{seed}"])) == (run[-1], min(run))
            assert one[f"state_{seed}"] == "completed"
        told = [float(one[name]) for name in ("mean", "sd", "min", "max", "best_mean")]
        np.testing.assert_allclose(
            told, [final.mean(), final.std(ddof=1), final.min(), final.max(), lowest.mean()], rtol=1e-12
        )
        (searched,) = [trial for trial in sure.trials if trial["trial"] == one["trial"]]
        assert one["search_fid"] == searched["fid"]


def test_the_winner_is_the_best_mean_and_its_best_run_is_shown(sure, storage):
    means = {
        one["trial"]: np.mean([fids(sure.run(one["trial"], seed))[-1] for seed in sure.seeds]) for one in sure.table
    }
    winner = min(means, key=means.get)
    assert sure.best["trial"] == sure.table[0]["trial"] == winner
    assert sure.best["fid"] == pytest.approx(means[winner], rel=1e-12)
    assert sure.best["seeds"] == sure.seeds
    final = {seed: fids(sure.run(winner, seed))[-1] for seed in sure.seeds}
    shown = sure.best["seed"]
    assert shown == min(final, key=final.get)
    assert (sure.best["seed_fid"], sure.best["step"]) == (final[shown], ROUNDS)
    (told,) = [line for line in sure.screen.splitlines() if line.startswith("best ")]
    mean, sd = (float(one.replace(",", "")) for one in re.search(r"FID (\S+) ± (\S+) over", told).groups())
    wanted = np.std(list(final.values()), ddof=1)
    assert (mean, sd) == (pytest.approx(means[winner], abs=wanted / 10), pytest.approx(wanted, rel=0.05))
    assert f"samples are of its best run, seed {shown}: FID {final[shown]:.1f})" in told
    path = find_checkpoint(NAME, Storage(path=storage))
    assert path == sure.run(winner, sure.best["seed"]).checkpoint(ROUNDS)
    assert evaluated(path, storage)["fid"] == sure.best["seed_fid"]
    picture = sure.run(winner, sure.best["seed"]).pictures()[-1]
    assert sure.folder.best.with_suffix(".png").read_bytes() == picture.read_bytes()
    settings = TrainExperiment.from_yaml(sure.folder.best.read_text())
    played = TrainExperiment.from_yaml(sure.run(winner, sure.best["seed"]).experiment.read_text())
    assert settings == played.model_copy(update={"name": None})


def test_a_confirmed_run_is_the_game_of_its_settings_and_seed(sure, reference, tmp_path):
    run = sure.run(sure.table[1]["trial"], sure.seeds[0])
    list(play(TrainExperiment.from_yaml(run.experiment.read_text()), RunFolder(tmp_path), reference, target=None))
    assert [timeless(row) for row in rows(tmp_path)] == [timeless(row) for row in rows(run.path)]
    (saved,) = run.checkpoints()
    again = RunFolder(tmp_path).checkpoint(ROUNDS) / "state.safetensors"
    assert again.read_bytes() == (saved / "state.safetensors").read_bytes()


def test_the_screen_says_what_goes_on_and_shows_the_search_beside(sure):
    assert "confirming 2 settings x 2 seeds" in sure.screen
    head = next(line for line in sure.screen.splitlines() if "mean ± sd" in line)
    for heading in ("min-max", "mean of lowest", "in the search"):
        assert heading in head
    assert str(sure.folder.path / "confirmed.csv") in sure.screen
    assert f"ganfleet train --from-search {NAME}" in sure.screen


# MLflow


def test_each_confirmed_run_is_a_child_with_each_value_once(sure, client):
    assert len(sure.children) == 4
    for name, run in sure.children.items():
        trial, _, seed = name.rpartition("-")
        tags = {"ganfleet.trial": trial, "ganfleet.seed": seed, "mlflow.parentRunId": sure.parent.info.run_id}
        assert tags.items() <= run.data.tags.items()
        assert run.data.params["seed"] == seed
        assert (run.info.status, run.data.tags["ganfleet.state"]) == ("FINISHED", "completed")
        assert agree(client, run, sure.run(trial, int(seed)).path)
        files = set(listing(client, run)) - {"model"}  # of the run that the model is made of
        assert files == {"checkpoint", "experiment.yaml", "images", "samples"}


def test_the_parent_names_the_winner(sure, client):
    tags = sure.parent.data.tags
    assert tags["ganfleet.best.trial"] == sure.best["trial"]
    assert float(tags["ganfleet.best.fid"]) == pytest.approx(sure.best["fid"], abs=1e-4)
    assert (tags["ganfleet.best.seed"], float(tags["ganfleet.best.seed_fid"])) == (
        str(sure.best["seed"]),
        pytest.approx(sure.best["seed_fid"], abs=1e-4),
    )
    assert float(tags["ganfleet.best.sd"]) == pytest.approx(sure.best["sd"], abs=1e-4)
    (point,) = client.get_metric_history(sure.parent.info.run_id, "confirmed/fid_mean")
    assert (point.step, point.value) == (4, sure.best["fid"])
    assert "confirmed.csv" in listing(client, sure.parent)


def test_the_winner_is_registered_and_can_be_downloaded(sure, storage, tmp_path):
    (version,) = sure.versions
    run = sure.children[f"{sure.best['trial']}-{sure.best['seed']}"]
    assert (version.run_id, version.source) == (run.info.run_id, f"{run.info.artifact_uri}/model")
    assert float(version.tags["ganfleet.fid.mean"]) == pytest.approx(sure.best["fid"], abs=1e-4)
    assert float(version.tags["ganfleet.fid"]) == pytest.approx(sure.best["seed_fid"], abs=1e-4)
    assert version.tags["ganfleet.search.id"] == sure.folder.id
    assert version.tags["ganfleet.seeds"] == ",".join(map(str, sure.seeds))
    got = Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=run.info.artifact_uri, dst_path=str(tmp_path), tracking_uri=f"sqlite:///{storage}/mlflow.db"
        )
    )
    confirmed = sure.run(sure.best["trial"], sure.best["seed"])
    for file in ("experiment.yaml", "model/experiment.yaml"):
        assert (got / file).read_bytes() == confirmed.experiment.read_bytes()
    assert (got / "model" / "MLmodel").is_file()
    saved = confirmed.checkpoint(ROUNDS) / "state.safetensors"
    assert (got / "checkpoint" / "state.safetensors").read_bytes() == saved.read_bytes()


# Its settings trained again


def from_search(words: list[str], name: str = NAME) -> Request[TrainExperiment]:
    """What `train --from-search NAME` requests."""
    return train_request(CommandLine.of(words, None, None, name))


def test_the_winner_is_trained_from_its_folder_and_from_the_registry_alike(sure, storage):
    words = [f"storage.path={storage}", "name=again", "budget.rounds=40"]
    request = from_search(words)
    experiment, origin = request.experiment, request.origin
    played = TrainExperiment.from_yaml(sure.run(sure.best["trial"], sure.best["seed"]).experiment.read_text())
    assert experiment == played.override("name=again", "budget.rounds=40")
    assert origin == {"ganfleet.search": NAME, "ganfleet.trial": sure.best["trial"]}
    uri = f"tracking.uri=sqlite:///{storage}/mlflow.db"
    elsewhere = [f"storage.path={storage / 'elsewhere'}", uri, "name=again", "budget.rounds=40"]
    there = from_search(elsewhere)
    assert there.experiment == experiment.override(f"storage.path={storage / 'elsewhere'}", uri)
    assert there.origin == origin


def test_a_name_that_the_registry_does_not_know_is_told_with_the_nearest(sure, storage, tmp_path):
    words = [f"storage.path={tmp_path}", f"tracking.uri=sqlite:///{storage}/mlflow.db"]
    with pytest.raises(SettingsError, match="no search named 'shure'.*nearest: sure"):
        from_search(words, "shure")


def test_a_run_of_the_winners_settings_says_where_they_are_from(sure, storage, client, tmp_path):
    """Also if the run is resumed with another tracking store."""
    words = [f"storage.path={storage}", "name=once-more", "budget.rounds=2", "budget.eval_every=2"]
    request = from_search(words)
    experiment, folder = request.experiment, request.folder
    folder.create(experiment.to_yaml(), request.origin)
    train(experiment, folder, Console(quiet=True))
    uri = f"sqlite:///{tmp_path}/other.db"
    train(*resumed("train", "once-more", storage, "budget.rounds=4", f"tracking.uri={uri}"), Console(quiet=True))
    for store in (client, MlflowClient(uri)):
        tags = named(store, "once-more").data.tags
        assert (tags["ganfleet.kind"], tags["ganfleet.search"]) == ("train", NAME)
        assert tags["ganfleet.trial"] == sure.best["trial"]


# Resuming


def test_a_confirmed_search_that_is_resumed_stays_as_it_is(sure, storage, client):
    again = ended(client, *resumed("search", NAME, storage))
    assert (again.trials, again.table, again.best) == (sure.trials, sure.table, sure.best)
    assert [version.version for version in again.versions] == [version.version for version in sure.versions]
    for name, before in sure.children.items():
        after = again.children[name]
        assert (after.info.run_id, after.info.end_time) == (before.info.run_id, before.info.end_time)


def test_a_search_that_is_moved_and_asked_for_more_plays_what_is_missing(sure, storage, client, tmp_path):
    """One more trial, one more setting and one more seed: each earlier run stays. This must be the last test of
    this search: it moves the folder."""
    sure.folder.path.rename(tmp_path / NAME)
    kept = {path: path.read_bytes() for path in (tmp_path / NAME / "confirm" / "trials").glob("*/metrics.jsonl")}
    assert len(kept) == 4
    words = ["search.trials=4", "search.confirm=3", "search.confirm_seeds=3"]
    uri = f"tracking.uri=sqlite:///{storage}/mlflow.db"
    more = ended(client, *resumed("search", NAME, tmp_path, *words, uri))
    assert not sure.folder.path.exists(), "nothing is written where it was"
    assert len(more.trials) == 4
    assert more.seeds[:2] == sure.seeds
    assert len(more.seeds) == 3
    best_three = {one["trial"] for one in more.trials[:3]}
    confirmed = {one["trial"] for one in more.table}
    assert confirmed == best_three | {one["trial"] for one in sure.table}
    assert set(more.children) == {f"{trial}-{seed}" for trial in confirmed for seed in more.seeds}
    for path, content in kept.items():
        assert path.read_bytes() == content
    for name, before in sure.children.items():
        after = more.children[name]
        assert (after.info.run_id, after.info.end_time) == (before.info.run_id, before.info.end_time)
    means = {trial: np.mean([fids(more.run(trial, seed))[-1] for seed in more.seeds]) for trial in confirmed}
    assert more.best["trial"] == min(means, key=means.get)
    assert more.best["fid"] == pytest.approx(min(means.values()), rel=1e-12)
    assert len(more.versions) == 2
    assert float(more.versions[-1].tags["ganfleet.fid.mean"]) == pytest.approx(more.best["fid"], abs=1e-4)
    steps = [point.step for point in client.get_metric_history(more.parent.info.run_id, "confirmed/fid_mean")]
    assert steps == [4, len(more.children)]


@pytest.mark.usefixtures("own_cluster")
def test_a_search_that_is_killed_while_it_confirms_goes_on(storage, reference, tmp_path):
    """From the command line: nothing is played or tracked twice, and the rows equal those of uninterrupted runs."""
    name, rounds = "killed", 60
    words = ["name=" + name, f"storage.path={storage}", "search.trials=1", "search.confirm=1", "search.confirm_seeds=2"]
    budget = [f"budget.rounds={rounds}", f"budget.eval_every={EVERY}", f"budget.log_every={EVERY}"]
    folder = RunFolder(storage / name)
    runs = folder.path / "confirm" / "trials"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command("search", "wgan_gp", *SMALL, *words, *budget),
            cwd=tmp_path,
            env=environment(),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        while process.poll() is None and sum(len(RunFolder(run).rows()) for run in runs.glob("*")) < 3:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "said").read_text()
    assert not folder.best.exists()
    done = ganfleet(tmp_path, "search", "--resume", name, f"storage.path={storage}")
    assert (done.returncode, done.stderr) == (0, "")
    client = client_of(storage)
    children = {run.info.run_name.rpartition("/")[2]: run for run in tracked(client, kind="confirm", search=name)}
    assert len(tracked(client, kind="confirm", search=name)) == len(children) == 2
    assert {path.name for path in runs.iterdir()} == set(children)
    for run_id, child in children.items():
        run, again = RunFolder(runs / run_id), RunFolder(tmp_path / run_id)
        again.path.mkdir()
        list(play(TrainExperiment.from_yaml(run.experiment.read_text()), again, reference, target=None))
        assert [timeless(row) for row in rows(run.path)] == [timeless(row) for row in rows(again.path)]
        assert agree(client, child, run.path)
        assert child.info.status == "FINISHED"
    best = json.loads(folder.best.with_suffix(".json").read_text())
    assert best["fid"] == pytest.approx(np.mean([fids(RunFolder(path))[-1] for path in runs.iterdir()]), rel=1e-12)
