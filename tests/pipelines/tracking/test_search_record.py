"""The record of a search in MLflow: whenever its driver is killed, all of it is delivered, once, and without Ray."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from safetensors.torch import load_file

from gan_core.checkpoint import open_game
from gan_core.streams import latents
from pipelines.evaluate.export import export
from pipelines.runs._folder import RunFolder
from pipelines.search._journal import Journal, scalars
from pipelines.search.confirmation.results import fresh_seeds
from pipelines.search.record import deliver_record, finished
from pipelines.settings._experiments import SearchExperiment
from pipelines.tracking.retry import UntrackedNote
from tests.pipelines.small_runs import (
    SMALL,
    Death,
    Killed,
    agree,
    client_of,
    created,
    ganfleet_here,
    history,
    listing,
    named,
    pictures,
    resumed,
    rows,
    small_search,
    tracked,
)

LR = {"t0001": 1e-4, "t0002": 2e-4, "t0003": 3e-4}
GAME = ("budget.rounds=12", "budget.log_every=2", "budget.eval_every=4", "family.n_critic=2")
SEARCH = ("search.trials=3", "search.confirm=1", "search.confirm_seeds=2", "search.scheduler=none")


def played_search(played, storage: Path, name: str, ended: int = 3) -> tuple[SearchExperiment, RunFolder]:
    """A search as its driver was killed before MLflow had anything of it: `ended` of its three trials have ended, and
    if all have, so have the two confirmation runs. Each is a copy of one run, with other FIDs."""
    experiment = small_search(storage, ["wgan_gp"], name, *SEARCH, *GAME)
    folder = created(experiment)
    UntrackedNote(folder).write({"ganfleet.fid.extractor": "classifier"})
    with Journal(folder.journal) as journal:
        for number, (trial, lr) in enumerate(LR.items()):
            config = {"settings": {"name": "wgan_gp", "lr": lr}}
            play(played, experiment, folder, journal, trial, config, 5.0 - number, number < ended)
    if ended == len(LR):
        below = folder.below("confirm")
        below.path.mkdir()
        with Journal(below.journal) as journal:
            for number, seed in enumerate(fresh_seeds(experiment.seed, 2)):
                config = {"settings": {"name": "wgan_gp", "lr": LR["t0003"]}, "seed": seed}
                play(played, experiment, below, journal, f"t0003-{seed}", config, 4.0 + number, True)
    return experiment, folder


def play(played, experiment: Any, folder: RunFolder, journal: Journal, trial: str, config: Any, fid: float, end: bool):
    """A copy of a run as a trial, whose FID is `fid` at the end and 1 more at each evaluation before."""
    own = folder.trial(trial)
    own.path.mkdir(parents=True)
    for inside in ("checkpoints", "samples"):
        shutil.copytree(played.folder.path / inside, own.path / inside)
    shutil.copy(played.folder.path / "times.jsonl", own.path)
    own.experiment.write_text(experiment.trial(config["settings"], config.get("seed")).to_yaml())
    known = [{**row, "fid": fid + (12 - row["step"]) / 4} if "fid" in row else row for row in rows(played.folder.path)]
    own.metrics.write_text("".join(json.dumps(row) + "\n" for row in known))
    journal.begin(trial, config)
    result = scalars({**known[-1], "last_step": 12})
    if end:
        journal.end(trial, "completed", result=result)
    else:
        journal.result(trial, result)


def whole(client: MlflowClient, folder: RunFolder) -> dict[str, Any]:
    """All that MLflow has of a search, but for what differs between searches. Asserts that nothing stands twice."""
    parent = named(client, folder.path.name)
    children = [run for kind in ("trial", "confirm") for run in tracked(client, kind=kind, search=folder.path.name)]
    found: dict[str, Any] = {}
    for run in [parent, *children]:
        name = run.info.run_name.removeprefix(folder.path.name)
        assert name not in found, f"two runs {run.info.run_name}"
        found[name] = {
            "status": run.info.status,
            "rows": history(client, run),
            "pictures": pictures(client, run),
            "files": listing(client, run),
        }
        if run is not parent:
            below = folder.path / ("confirm/trials" if "confirm" in name else "trials") / name.rpartition("/")[2]
            assert agree(client, run, below)
    versions = client.search_model_versions(f"name = '{folder.path.name}'")
    return {"runs": found, "versions": [version.version for version in versions]}


def deliver(storage: Path, name: str) -> str:
    screen = io.StringIO()
    deliver_record(*resumed("search", name, storage), Console(file=screen, width=200))
    return screen.getvalue()


@pytest.fixture(scope="module")
def delivered(played, storage) -> tuple[RunFolder, list[str]]:
    """A search that is delivered at one go, and the calls that it took."""
    _, folder = played_search(played, storage, "at-one-go")
    with pytest.MonkeyPatch.context() as patch:
        calls = Death(patch).calls
        said = deliver(storage, "at-one-go")
    assert "has all of at-one-go now" in said
    assert "model     at-one-go version 1 in MLflow's registry" in said
    return folder, calls


def test_all_of_a_search_is_delivered(delivered, storage):
    folder, _ = delivered
    client = client_of(storage)
    found = whole(client, folder)
    assert {one["status"] for one in found["runs"].values()} == {"FINISHED"}
    parent = found["runs"][""]
    assert {step: row["best_fid"] for step, row in parent["rows"].items() if "best_fid" in row} == {
        1: 5.0,
        2: 4.0,
        3: 3.0,
    }
    assert parent["pictures"] == [0, 1, 2, 3]
    assert {step: row["confirmed/fid_mean"] for step, row in parent["rows"].items() if "confirmed/fid_mean" in row} == {
        2: 4.5
    }
    assert {"best.yaml", "confirmed.csv", "learned", "trials.csv"} <= set(parent["files"])
    assert found["versions"] == [1]
    assert len(found["runs"]) == 1 + 3 + 2
    assert named(client, "at-one-go").data.tags["ganfleet.fid.extractor"] == "classifier"
    assert not UntrackedNote(folder)


def test_the_registered_winner_is_a_model_that_draws_its_samples(delivered, storage, monkeypatch):
    """It is that of the best run, with its settings and picture."""
    folder, _ = delivered
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{storage}/mlflow.db")
    found = json.loads((folder.path / "best.json").read_text())
    game = open_game(folder.path / found["checkpoint"])
    z = latents(game.experiment.seed, "picture", 0, 64, 8, game.device, game.dtype)
    loaded = mlflow.pytorch.load_model("models:/at-one-go/1")
    assert torch.equal(loaded(z), game.sample(z))
    files = Path(mlflow.artifacts.download_artifacts("models:/at-one-go/1"))
    assert (files / "samples.png").read_bytes() == (folder.path / "best.png").read_bytes()
    assert f"seed: {found['seed']}" in (files / "experiment.yaml").read_text()
    assert mlflow.models.Model.load(files).metadata["fid"] == 4.5
    assert load_file(files / "generator.safetensors").keys() == game.average.state_dict().keys()


def test_the_winners_model_card_has_the_mean_over_its_seeds(delivered, tmp_path):
    folder, _ = delivered
    found = json.loads((folder.path / "best.json").read_text())
    card = export(folder.path / found["checkpoint"], "safetensors", tmp_path / "net.safetensors").card.read_text()
    assert f"| confirmed | FID 4.5000 ± 0.7071 (seeds {found['seeds'][0]}, {found['seeds'][1]}) |" in card
    assert "# at-one-go\n" in card


def test_a_run_says_what_it_is(delivered, storage):
    """The description of a search has the FID by which its winner won; that of a trial its own, and its samples."""
    client = client_of(storage)
    parent = named(client, "at-one-go")
    told = parent.data.tags["mlflow.note.content"]
    assert told.startswith("**FID 4.50 ± 0.71 over 2 seeds: trial t0003, the best of 3 (completed)**")
    assert f"get-artifact?path=best.png&run_uuid={parent.info.run_id}" in told
    for run in tracked(client, kind="trial", search="at-one-go"):
        assert run.data.params.keys() == {"family.name", "family.beta1", "family.gp_lambda", "family.lr"}
        told = run.data.tags["mlflow.note.content"]
        assert f"**FID {run.data.metrics['fid']:.3g} at step 12, completed**" in told
        assert f"get-artifact?path=samples%2Flatest.png&run_uuid={run.info.run_id}" in told
        assert "samples/latest.png" in listing(client, run, "samples")


def test_a_point_of_the_curve_has_the_time_at_which_the_trial_ended(delivered, storage):
    folder, _ = delivered
    ends = [line["time"] for line in map(json.loads, folder.journal.read_text().splitlines()) if line["event"] == "end"]
    client = client_of(storage)
    points = client.get_metric_history(named(client, folder.path.name).info.run_id, "best_fid")
    assert [point.timestamp for point in points] == ends


@pytest.mark.full
def test_after_a_kill_at_any_call_the_rest_is_delivered(delivered, played, storage, monkeypatch):
    """The driver dies at each third call to MLflow. The record is that of a search which was delivered at one go."""
    first, calls = delivered
    client = client_of(storage)
    expected = whole(client, first)
    for number in range(0, len(calls), 3):
        name = f"killed-{number}"
        _, folder = played_search(played, storage, name)
        with monkeypatch.context() as patch:
            Death(patch, number)
            with pytest.raises(Killed):
                deliver(storage, name)
        assert UntrackedNote(folder), f"killed at call {number}, {calls[number]}"
        deliver(storage, name)
        assert whole(client, folder) == expected
        assert not UntrackedNote(folder)


def test_a_search_that_is_killed_while_it_registers_its_winner_owes_that(played, storage, monkeypatch):
    _, folder = played_search(played, storage, "unregistered")
    with monkeypatch.context() as patch:

        def killed(*_: Any, **__: Any) -> None:
            raise Killed

        patch.setattr(MlflowClient, "create_model_version", killed)
        with pytest.raises(Killed):
            deliver(storage, "unregistered")
    assert UntrackedNote(folder)
    assert "unregistered version 1 in MLflow's registry" in deliver(storage, "unregistered")
    assert not UntrackedNote(folder)


@pytest.mark.parametrize("how", ["the same line", "--resume", "sync"])
def test_a_finished_search_is_delivered_without_a_cluster_or_data(how, played, storage, monkeypatch, capfd):
    name = f"by-{how.strip('-').replace(' ', '-')}"
    _, folder = played_search(played, storage, name)
    monkeypatch.setattr("pipelines.search._play.cluster", lambda: pytest.fail("a cluster is started"))
    monkeypatch.setattr("pipelines.search.command.real_data", lambda *_: pytest.fail("the data are read"))
    lines = {
        "the same line": ["search", "wgan_gp", *SMALL, f"name={name}", *SEARCH, *GAME],
        "--resume": ["search", "--resume", name],
        "sync": ["sync", name],
    }
    done = ganfleet_here(monkeypatch, capfd, *lines[how], f"storage.path={storage}")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"has all of {name} now" in done.stdout
    assert named(client_of(storage), name).info.status == "FINISHED"
    assert not UntrackedNote(folder)


def test_an_unfinished_search_is_ended_as_interrupted(played, storage):
    experiment, folder = played_search(played, storage, "unfinished", ended=1)
    assert not finished(experiment, folder)
    deliver(storage, "unfinished")
    client = client_of(storage)
    assert named(client, "unfinished").info.status == "KILLED"
    states = {run.data.tags["ganfleet.trial"]: run.info.status for run in tracked(client, search="unfinished")}
    assert states == {"t0001": "FINISHED", "t0002": "KILLED", "t0003": "KILLED"}
    for run in tracked(client, search="unfinished"):
        assert agree(client, run, folder.trial(run.data.tags["ganfleet.trial"]).path)
    assert not UntrackedNote(folder)
    assert "trials.csv" in listing(client, named(client, "unfinished"))


def test_a_search_is_finished_once_its_confirmation_is(played, storage):
    experiment, folder = played_search(played, storage, "all-played")
    assert finished(experiment, folder)
    assert not finished(experiment.override("search.confirm_seeds=3"), folder)
    assert not finished(experiment.override("search.trials=4"), folder)
    assert finished(experiment.override("search.trials=4", "search.hours=1"), folder)
