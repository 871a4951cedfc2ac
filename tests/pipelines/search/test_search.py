"""A search on Ray Tune over a family that diverges and one that does not: files, runs in MLflow, extension."""

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from rich.console import Console

from gan_core import data
from pipelines.evaluate.reference import prepare_reference
from pipelines.launch._request import train_experiment
from pipelines.runs._folder import RunFolder
from pipelines.runs._lookup import find_checkpoint
from pipelines.search.command import search
from pipelines.settings._experiments import SearchExperiment, TrainExperiment
from pipelines.settings._storage import Storage
from pipelines.tracking.retry import UntrackedNote
from pipelines.train.play import play
from tests.pipelines.small_runs import (
    DIVERGING,
    agree,
    client_of,
    created,
    evaluated,
    history,
    listing,
    named,
    resumed,
    rows,
    small_search,
    table,
    timeless,
    tracked,
)

STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
ROUNDS, EVERY = 60, 20


@dataclass(frozen=True)
class Searched:
    """A search that has ended, with its files and MLflow runs at that moment."""

    experiment: SearchExperiment
    folder: RunFolder
    screen: str
    table: list[dict[str, str]]
    best: dict
    parent: Run
    children: dict[str, Run] = field(default_factory=dict)
    """The trials' runs by trial id."""


def searched(experiment: SearchExperiment, folder: RunFolder) -> Searched:
    screen = io.StringIO()
    search(experiment, folder, Console(file=screen, width=200))
    client = client_of(experiment.storage.path)
    best = json.loads((folder.path / "best.json").read_text())
    children = tracked(client, kind="trial", search=folder.path.name)
    parent = named(client, folder.path.name)
    by_trial = {run.data.tags["ganfleet.trial"]: run for run in children}
    assert len(by_trial) == len(children), "a trial with two runs"
    return Searched(experiment, folder, screen.getvalue(), table(folder.path), best, parent, by_trial)


@pytest.fixture(scope="module")
def client(storage) -> MlflowClient:
    return client_of(storage)


@pytest.fixture(scope="module")
def found(ray_cluster, storage) -> Searched:
    """Four trials; those of `gan` fail before their first evaluation."""
    experiment = small_search(
        storage,
        ["gan", "wgan"],
        "hunt",
        *DIVERGING,
        "search.trials=4",
        "search.sampler=random",
        f"budget.rounds={ROUNDS}",
        f"budget.eval_every={EVERY}",
        "budget.log_every=10",
    )
    return searched(experiment, created(experiment))


def test_every_trial_has_a_row(found):
    assert len(found.table) == 4
    ids = {row["trial"] for row in found.table}
    assert ids == {path.name for path in (found.folder.path / "trials").iterdir()}
    assert {row["family"] for row in found.table} == {"gan", "wgan"}
    wanted = {"trial", "state", "reason", "fid", "step", "images_per_second", "family", "clip", "checkpoint"}
    assert set(found.table[0]) == wanted, "what is fixed is no column"


def test_a_trial_that_diverges_fails_and_the_search_goes_on(found):
    for row in found.table:
        logged = rows(found.folder.trial(row["trial"]).path) if row["family"] == "wgan" else []
        if row["family"] == "gan":
            assert (row["state"], row["fid"], row["step"], row["checkpoint"]) == ("failed", "", "0", "")
            assert row["reason"].startswith(("diverged: loss/", "diverged: gradient_norm/"))
            assert f"failed: {row['reason']}" in found.screen
            continue
        ended = ("completed", "") if logged[-1]["step"] == ROUNDS else ("stopped", "early")
        assert (row["state"], row["reason"]) == ended
        assert (float(row["fid"]), int(row["step"])) == (logged[-1]["fid"], logged[-1]["step"])
        assert (
            float(row["clip"])
            == TrainExperiment.from_yaml(found.folder.trial(row["trial"]).experiment.read_text()).family.clip
        )
    states = Counter(row["state"] for row in found.table)
    assert states["failed"] >= 1
    assert states["completed"] >= 1, "asha lets the best of each rung go on"


def test_trials_are_stopped_at_rungs_only(found):
    for row in found.table:
        if row["state"] == "stopped":
            assert int(row["step"]) in (EVERY, 3 * EVERY)


def test_the_best_is_first_and_told(found):
    fids = [float(row["fid"]) for row in found.table if row["fid"]]
    assert fids == sorted(fids)
    assert [bool(row["fid"]) for row in found.table] == sorted((bool(row["fid"]) for row in found.table), reverse=True)
    first = found.table[0]
    told = (found.best["trial"], found.best["fid"], found.best["step"])
    assert told == (first["trial"], float(first["fid"]), int(first["step"]))
    assert found.folder.path / found.best["checkpoint"] == Path(first["checkpoint"])
    assert f"(trial {first['trial']}, step {first['step']})" in found.screen
    for row in found.table:
        assert row["trial"] in found.screen
    assert str(found.folder.best) in found.screen
    (told,) = [line for line in found.screen.splitlines() if line.startswith("sheet ")]
    sheet = Image.open(told.split()[1])
    assert sheet.width > 2 * 202, "a row of trials"


def test_the_best_fid_is_that_of_its_checkpoint(found, storage):
    path = find_checkpoint("hunt", Storage(path=storage))
    assert str(path) == found.table[0]["checkpoint"]
    result = evaluated(path, storage)
    assert (result["fid"], result["step"]) == (found.best["fid"], found.best["step"])
    assert result["family"] == "wgan"


def test_the_best_picture_is_the_best_trials_last(found):
    content = found.folder.best.with_suffix(".png").read_bytes()
    assert content == found.folder.trial(found.best["trial"]).pictures()[-1].read_bytes()
    assert Image.open(io.BytesIO(content)).size == (512, 512)


def test_the_best_settings_train_again_to_the_same_game(found, storage, tmp_path):
    experiment = train_experiment([], ["name=again", f"storage.path={tmp_path}"], found.folder.best.read_text())
    assert experiment.family.lr == 1.0
    folder = created(experiment)
    content = prepare_reference(experiment.metrics, data.load(experiment.data), storage, Console(quiet=True)).content
    list(play(experiment, folder, content, target=None))
    again = {row["step"]: timeless(row) for row in rows(folder.path)}
    for row in rows(found.folder.trial(found.best["trial"]).path):
        assert timeless(row) == again[row["step"]]


def test_trials_keep_one_checkpoint(found):
    for row in found.table:
        kept = found.folder.trial(row["trial"]).checkpoints()
        assert [str(path) for path in kept] == ([row["checkpoint"]] if row["checkpoint"] else [])


# MLflow


def test_one_parent_and_a_child_for_each_trial(found):
    parent = found.parent
    assert parent.info.status == "FINISHED"
    tags = {
        "ganfleet.kind": "search",
        "ganfleet.state": "completed",
        "ganfleet.best.trial": found.best["trial"],
        "ganfleet.best.fid": f"{found.best['fid']:.4f}",
    }
    assert tags.items() <= parent.data.tags.items()
    assert parent.data.params["search.sampler"] == "random"
    assert set(found.children) == {row["trial"] for row in found.table}
    for trial, run in found.children.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.run_name == f"hunt/{trial}"


def test_the_states_in_mlflow_are_those_of_the_table(found):
    for row in found.table:
        run = found.children[row["trial"]]
        assert run.data.tags["ganfleet.state"] == row["state"]
        assert run.data.tags.get("ganfleet.reason", "") == row["reason"]
        assert run.info.status == STATUS[row["state"]]
        assert run.data.params["family.name"] == row["family"]
        if row["family"] == "wgan":
            assert run.data.params["family.clip"] == row["clip"]


def test_mlflow_holds_each_value_once(found, client):
    for trial, run in found.children.items():
        folder = found.folder.trial(trial)
        if run.data.tags["ganfleet.state"] == "failed":
            assert run.data.metrics == {}
        else:
            assert agree(client, run, folder.path)


def test_the_parent_has_the_best_fid_by_trials(found, client):
    points = client.get_metric_history(found.parent.info.run_id, "best_fid")
    steps, values = [point.step for point in points], [point.value for point in points]
    assert steps == list(range(steps[0], len(found.children) + 1)), "a point a trial, once there is a FID"
    assert values == sorted(values, reverse=True)
    fids = [float(row["fid"]) for row in found.table if row["fid"] and row["state"] != "failed"]
    assert values[-1] == pytest.approx(min(fids), rel=1e-6)
    pictures = [path for path in listing(client, found.parent, "images") if path.endswith(".png")]
    assert {int(path.split("+step+")[1].split("+")[0]) for path in pictures} == {0} | {
        step for step, before, now in zip(steps, [None, *values], values, strict=False) if now != before
    }


def test_what_is_in_mlflow_besides(found, client):
    files = ["best.json", "best.png", "best.yaml", "experiment.yaml", "images", "learned", "samples", "trials.csv"]
    assert listing(client, found.parent) == files
    drawn = ["parallel.png", "progress.png", "samples.png", "settings.png"]  # too few trials for importance
    assert listing(client, found.parent, "learned") == [f"learned/{name}" for name in drawn]
    for run in found.children.values():
        lost = run.data.tags["ganfleet.state"] == "failed"
        files = ["experiment.yaml", "images", "samples"]
        assert listing(client, run) == (files if lost else ["checkpoint", *files])


# Resuming


@pytest.fixture(scope="module")
def extended(found, storage) -> Searched:
    return searched(*resumed("search", "hunt", storage, "search.trials=6"))


def test_an_extended_search_has_more_trials_of_the_same_search(found, extended):
    assert extended.parent.info.run_id == found.parent.info.run_id
    assert extended.parent.info.status == "FINISHED"
    assert len(extended.table) == len(extended.children) == 6
    assert set(found.children) < set(extended.children)
    drawn = [row["clip"] for row in extended.table if row["family"] == "wgan"]
    assert len(set(drawn)) == len(drawn), "the sampler goes on, it does not begin anew"


def test_a_finished_search_that_is_resumed_stays_as_it_is(extended, storage):
    """Tune then takes no step, so its callbacks get no trial until the end."""
    UntrackedNote(extended.folder).write({}, "as if MLflow had been away")
    again = searched(*resumed("search", "hunt", storage))
    assert f"tracking     sqlite:///{storage}/mlflow.db has all of hunt now: what it lacked is brought" in again.screen
    assert "lacked" not in extended.screen
    assert again.table == extended.table
    assert again.best == extended.best
    assert again.parent.info.status == "FINISHED"
    assert {trial: run.info.end_time for trial, run in again.children.items()} == {
        trial: run.info.end_time for trial, run in extended.children.items()
    }


def test_old_trials_stay_as_they_were(found, extended, client):
    later = {row["trial"]: row for row in extended.table}
    for row in found.table:
        assert later[row["trial"]] == row
    for trial, before in found.children.items():
        after = extended.children[trial]
        assert after.info.run_id == before.info.run_id
        assert (after.info.status, after.info.start_time) == (before.info.status, before.info.start_time)
        assert after.data.tags["ganfleet.state"] == before.data.tags["ganfleet.state"]
        assert after.data.metrics == before.data.metrics
        history(client, after)


def test_a_run_that_had_ended_keeps_its_end(found, extended):
    """Otherwise MLflow shows each trial as lasting until its search was last resumed."""
    for trial, before in found.children.items():
        assert extended.children[trial].info.end_time == before.info.end_time


def test_the_table_and_the_best_are_those_of_all_trials(extended, storage):
    fids = [float(row["fid"]) for row in extended.table if row["fid"]]
    assert extended.best["fid"] == min(fids)
    assert extended.parent.data.tags["ganfleet.best.fid"] == f"{min(fids):.4f}"
    assert evaluated(find_checkpoint("hunt", Storage(path=storage)), storage)["fid"] == min(fids)


def test_ctrl_c_while_pictures_are_drawn_leaves_no_run_open(extended, storage, client, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.search.report.final_report.try_to_draw", pressed)
    with pytest.raises(KeyboardInterrupt):
        search(*resumed("search", "hunt", storage), Console(quiet=True))
    parent = named(client, "hunt")
    assert (parent.info.status, parent.data.tags["ganfleet.state"]) == ("KILLED", "interrupted")
    monkeypatch.undo()
    assert searched(*resumed("search", "hunt", storage)).best == extended.best


def test_a_search_that_was_moved_is_gone_on_with(extended, storage, tmp_path):
    """This must be the last test of this search: it moves the folder."""
    kept = extended.table
    extended.folder.path.rename(tmp_path / "hunt")
    words = ["search.trials=7", f"tracking.uri=sqlite:///{storage}/mlflow.db"]
    experiment, folder = resumed("search", "hunt", tmp_path, *words)
    search(experiment, folder, Console(quiet=True))
    now = {row["trial"]: row for row in table(tmp_path / "hunt")}
    assert len(now) == 7
    for row in kept:
        before = row["checkpoint"].replace(str(extended.folder.path), str(tmp_path / "hunt"))
        assert now[row["trial"]] == {**row, "checkpoint": before}
    assert find_checkpoint("hunt", Storage(path=tmp_path)).is_dir()
    assert len(tracked(client_of(storage), kind="trial", search="hunt")) == 7
