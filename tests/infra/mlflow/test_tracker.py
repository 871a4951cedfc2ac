"""What only MLflow's tracker promises: runs are found again, have a status, their files and many writers."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from infra.mlflow.pages import DataSet
from infra.mlflow.tracker import MlflowTracker, close_run, opened_run, prepare, version_tags


def opened(uri, experiment, name="run", parent=None, params=None, tags=None):
    return opened_run(uri, experiment, {"ganfleet.name": name}, name, parent, params or {}, tags or {}).info.run_id


def picture(width=16, height=16) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (9, 9, 9)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("name", ["run", "it's", 'a "b"', "100% + [x] = größer", "a and tags.b = c"])
def test_the_same_identity_is_the_same_run(uri, experiment, client, name):
    first = opened(uri, experiment, name)
    assert opened(uri, experiment, name) == first
    assert opened(uri, experiment, "another") != first
    assert len(client.search_runs([experiment])) == 2


def test_an_identity_is_all_of_its_tags(uri, experiment):
    runs = {
        opened_run(uri, experiment, {"ganfleet.search": "s", "ganfleet.trial": trial}, trial, None, {}, {}).info.run_id
        for trial in ("1", "2", "10", "1")
    }
    assert len(runs) == 3


def test_a_deleted_run_is_not_found_again(uri, experiment, client):
    first = opened(uri, experiment)
    client.delete_run(first)
    assert opened(uri, experiment) != first


def test_a_child_names_its_parent(uri, experiment, client):
    parent = opened(uri, experiment, "search", tags={"ganfleet.kind": "search"})
    child = opened(uri, experiment, "trial", parent=parent, tags={"ganfleet.kind": "trial"})
    run = client.get_run(child)
    assert run.info.run_name == "trial"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["ganfleet.kind"] == "trial"
    assert "mlflow.parentRunId" not in client.get_run(parent).data.tags
    found = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
    assert [run.info.run_id for run in found] == [child]


def test_a_run_names_its_data_once(uri, experiment, client):
    data = DataSet("digits", "97f2e3ec00ae96e4", "/data/digits", {"images": 1797})
    for _ in range(2):
        run = opened_run(uri, experiment, {"ganfleet.id": "x"}, "x", None, {}, {}, data)
    (found,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("digits", "97f2e3ec00ae96e4")
    assert json.loads(found.dataset.source) == {"uri": "/data/digits"}


def test_a_changed_param_becomes_a_tag_until_it_is_changed_back(uri, experiment, client):
    run_id = opened(uri, experiment, params={"budget.rounds": 20, "family.lr": 1e-4})
    opened(uri, experiment, params={"budget.rounds": 40, "family.lr": 1e-4, "seed": None})
    run = client.get_run(run_id)
    assert run.data.params == {"budget.rounds": "20", "family.lr": "0.0001", "seed": "None"}
    changed = {key: value for key, value in run.data.tags.items() if key.startswith("param_changed.")}
    assert changed == {"param_changed.budget.rounds": "40"}
    opened(uri, experiment, params={"budget.rounds": 20})
    assert "param_changed.budget.rounds" not in client.get_run(run_id).data.tags


def test_many_and_long_params_are_kept(uri, experiment, client):
    params = {f"p{i}": i for i in range(250)} | {"long": "x" * 10_000, "empty": ""}
    run_id = opened(uri, experiment, params=params)
    opened(uri, experiment, params=params)
    run = client.get_run(run_id)
    assert len(run.data.params) == 252
    assert run.data.params["long"].startswith("xxx")
    assert not any(key.startswith("param_changed.") for key in run.data.tags)
    opened(uri, experiment, params={"long": "x" * 10_001})
    assert "param_changed.long" in client.get_run(run_id).data.tags


def test_a_run_finishes_and_goes_on(uri, experiment, client):
    run_id = opened(uri, experiment)
    assert client.get_run(run_id).info.status == "RUNNING"
    MlflowTracker(uri, run_id).metrics(1, {"images_seen": 64})
    close_run(uri, run_id, "FINISHED", {"fid": "3.5"}, {})
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_run(run_id).data.tags["fid"] == "3.5"
    assert opened(uri, experiment) == run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    MlflowTracker(uri, run_id).metrics(2, {"images_seen": 128})
    close_run(uri, run_id, "KILLED", {}, {})
    assert client.get_run(run_id).info.status == "KILLED"
    assert [metric.step for metric in client.get_metric_history(run_id, "images_seen")] == [1, 2]


def test_files_go_to_the_experiments_folder_and_nothing_to_the_working_one(tmp_path, monkeypatch, capfd):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    root = tmp_path / "with space & 100%"
    best, checkpoint = tmp_path / "best.yaml", tmp_path / "step-7"
    (checkpoint / "deep").mkdir(parents=True)
    (checkpoint / "deep" / "model.safetensors").write_bytes(b"weights")
    uri = f"sqlite:///{root}/mlflow.db"
    run_id = opened(uri, prepare(uri, "tests", root / "files"))
    MlflowTracker(uri, run_id).picture(1, picture())
    artifacts = {"best.yaml": best, "configs/winner.yaml": best, "checkpoints/last": checkpoint}
    for content in ("old", "new"):
        best.write_text(content)
        close_run(uri, run_id, "FINISHED", {}, artifacts)
    stored = root / "files" / run_id / "artifacts"
    assert (stored / "best.yaml").read_text() == "new"
    assert (stored / "configs" / "winner.yaml").read_text() == "new"
    assert (stored / "checkpoints" / "last" / "deep" / "model.safetensors").read_bytes() == b"weights"
    assert sorted(path.name for path in stored.iterdir()) == [
        "best.yaml",
        "checkpoints",
        "configs",
        "images",
        "samples",
    ]
    assert list((tmp_path / "cwd").iterdir()) == []
    assert sorted(path.name for path in root.iterdir()) == ["files", "mlflow.db"]
    assert capfd.readouterr().out == ""


def test_a_missing_artifact_is_named_and_the_run_left_open(uri, experiment, client, tmp_path):
    run_id = opened(uri, experiment)
    with pytest.raises(ValueError, match=r"best\.yaml"):
        close_run(uri, run_id, "FINISHED", {}, {"best": tmp_path / "best.yaml"})
    assert client.get_run(run_id).info.status == "RUNNING"


@pytest.mark.parametrize("lost", ["*.png", "*.webp"])
def test_a_crash_inside_a_picture_is_repaired_in_place(uri, experiment, client, tmp_path, lost):
    run_id = opened(uri, experiment)
    MlflowTracker(uri, run_id).picture(5, picture())
    folder = tmp_path / "files" / run_id / "artifacts" / "images"
    names = sorted(path.name for path in folder.iterdir())
    next(folder.glob(lost)).unlink()
    MlflowTracker(uri, run_id).picture(5, picture())
    assert sorted(path.name for path in folder.iterdir()) == names
    assert {Image.open(path).getpixel((0, 0)) for path in folder.glob("*.png")} == {(9, 9, 9)}


def test_a_row_without_the_marker_is_a_bug(uri, experiment):
    tracker = MlflowTracker(uri, opened(uri, experiment))
    with pytest.raises(AssertionError, match="images_seen"):
        tracker.metrics(1, {"fid": 3.0})


def _log_rows(uri: str, experiment: str, name: str) -> None:
    run_id = opened(uri, experiment, name)
    tracker = MlflowTracker(uri, run_id)
    for step in range(50):
        tracker.metrics(step, {"images_seen": step, "loss/critic": 0.5})
    close_run(uri, run_id, "FINISHED", {}, {})


@pytest.mark.full
def test_four_processes_share_a_prepared_store_and_lose_nothing(uri, experiment, client, spawned):
    names = [f"run-{i}" for i in range(4)]
    assert spawned(_log_rows, [(uri, experiment, name) for name in names]) == [0, 0, 0, 0]
    runs = client.search_runs([experiment])
    assert sorted(run.info.run_name for run in runs) == names
    for run in runs:
        for name in ("images_seen", "loss/critic"):
            history = client.get_metric_history(run.info.run_id, name)
            assert [metric.step for metric in history] == list(range(50))


def test_versions_and_commit_are_recorded(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.chdir(repository)
    tags = version_tags()
    assert tags["mlflow.source.git.commit"] == head
    assert tags["ganfleet.version.python"] == ".".join(map(str, sys.version_info[:3]))
    assert {f"ganfleet.version.{name}" for name in ("torch", "ray", "mlflow")} <= tags.keys()


def test_the_folder_tracker_needs_no_mlflow():
    code = "import sys, infra.tracker, infra.versions; print(not {'mlflow', 'torch'} & sys.modules.keys())"
    root = Path(__file__).parents[3]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True"
