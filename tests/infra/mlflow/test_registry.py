"""The model registry of a SQLite store and of a real server, and a store without a registry."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from infra.mlflow.registry import NoRegistryError, check_answers, model_names, newest_version, read_text, register
from infra.mlflow.tracker import close_run, opened_run, prepare, run_of


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow's own server, which keeps the files itself."""
    folder = tmp_path_factory.mktemp("server")
    prepare(f"sqlite:///{folder}/mlflow.db", "schema", None)
    uri = f"http://127.0.0.1:{free_port()}"
    options = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", uri.rpartition(":")[2], "--workers", "1", *options],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        while process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=1):
                break
            time.sleep(0.1)
        assert process.poll() is None, (folder / "log").read_text()
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.full)])
def tracked(request, tmp_path) -> tuple[str, str]:
    """A store's uri, and an experiment in it."""
    uri = request.getfixturevalue("store" if request.param == "sqlite" else "server")
    return uri, prepare(uri, str(tmp_path), tmp_path / "files" if request.param == "sqlite" else None)


def finished(uri: str, experiment: str, folder: Path, name: str) -> str:
    """A run that has ended with files: the id."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.yaml").write_text(f"name: {name}\n")
    run = opened_run(uri, experiment, {"ganfleet.id": name}, name, None, {}, {}).info.run_id
    close_run(uri, run, "FINISHED", {}, {"experiment.yaml": folder / "experiment.yaml"})
    return run


def fill(into: Path) -> None:
    """Writes a model's files."""
    (into / "experiment.yaml").write_text("name: of the model\n")
    (into / "data").mkdir()
    (into / "data" / "state").write_bytes(b"weights")


def test_a_version_is_a_folder_of_the_runs_files_and_can_be_downloaded(tracked, tmp_path):
    uri, experiment = tracked
    run = finished(uri, experiment, tmp_path / "first", "first")
    made = register(uri, tmp_path.name, run, {"fid": "3.5"}, fill)
    client = MlflowClient(uri)
    (version,) = client.search_model_versions(f"name = '{tmp_path.name}'")
    assert (version.run_id, int(version.version), version.tags) == (run, made.version, {"fid": "3.5"})
    assert version.source == f"{client.get_run(run).info.artifact_uri}/model"
    assert {item.path for item in client.list_artifacts(run)} == {"experiment.yaml", "model"}
    got = mlflow.artifacts.download_artifacts(
        artifact_uri=version.source, dst_path=str(tmp_path / "got"), tracking_uri=uri
    )
    assert Path(got, "experiment.yaml").read_text() == "name: of the model\n"
    assert Path(got, "data", "state").read_bytes() == b"weights"
    assert newest_version(uri, tmp_path.name) == made
    assert read_text(uri, made, "experiment.yaml") == "name: of the model\n"
    assert tmp_path.name in model_names(uri)


def test_the_same_winner_is_no_second_version_and_another_is(tracked, tmp_path):
    uri, experiment = tracked
    model = tmp_path.name
    first, second = (finished(uri, experiment, tmp_path / name, name) for name in ("first", "second"))
    told = [(first, "1"), (first, "1"), (second, "2"), (second, "3"), (first, "1"), (first, "1")]
    versions = [register(uri, model, run, {"fid": fid}, fill).version for run, fid in told]
    assert versions == [1, 1, 2, 3, 4, 4]
    assert len(MlflowClient(uri).search_model_versions(f"name = '{model}'")) == 4
    last = newest_version(uri, model)
    assert (last.version, last.tags["fid"]) == (4, "1")


def test_a_request_that_is_repeated_makes_no_second_version_and_no_second_run(store, experiment, tmp_path, monkeypatch):
    """MLflow's client sends a request again if its answer is lost, though the server may have done what it asks."""
    client = MlflowClient(store)
    for name in ("create_run", "create_model_version"):
        real = getattr(MlflowClient, name)
        monkeypatch.setattr(MlflowClient, name, lambda *a, real=real, **k: (real(*a, **k), real(*a, **k))[1])
    run = finished(store, experiment, tmp_path / "first", "first")
    assert [found.info.run_id for found in client.search_runs([experiment])] == [run]
    for fid in ("1", "2", "1"):
        made = register(store, tmp_path.name, run, {"fid": fid}, fill)
        assert newest_version(store, tmp_path.name) == made
    kept = sorted(client.search_model_versions(f"name = '{tmp_path.name}'"), key=lambda one: int(one.version))
    assert [one.tags["fid"] for one in kept] == ["1", "2", "1"]


def test_a_run_is_found_as_it_is(tracked, tmp_path):
    uri, experiment = tracked
    run = finished(uri, experiment, tmp_path / "first", "first")
    assert run_of(uri, experiment, {"ganfleet.id": "first"}) == run
    assert MlflowClient(uri).get_run(run).info.status == "FINISHED"
    assert run_of(uri, experiment, {"ganfleet.id": "another"}) is None


@pytest.mark.parametrize("name", ["no-such-model", "it's", 'a "b"'])
def test_a_model_that_is_not_there_is_none(store, experiment, name):
    assert newest_version(store, name) is None


def test_a_file_that_a_version_lacks_is_named(store, experiment, tmp_path):
    made = register(store, tmp_path.name, finished(store, experiment, tmp_path / "a", "a"), {}, fill)
    with pytest.raises(NoRegistryError, match=f"version 1 of {tmp_path.name} has no nothing.yaml"):
        read_text(store, made, "nothing.yaml")


def test_a_store_without_a_registry_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "nowhere://registry")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run = finished(uri, prepare(uri, "tests", None), tmp_path / "a", "a")
    for ask in (lambda: register(uri, "m", run, {}, fill), lambda: newest_version(uri, "m"), lambda: model_names(uri)):
        with pytest.raises(NoRegistryError, match="not supported") as refused:
            ask()
        assert "\n" not in str(refused.value)


def test_a_server_that_is_not_there_is_told_at_once():
    with pytest.raises(NoRegistryError, match="no MLflow server answers"):
        check_answers(f"http://127.0.0.1:{free_port()}")
    check_answers("sqlite:////nowhere/mlflow.db")
