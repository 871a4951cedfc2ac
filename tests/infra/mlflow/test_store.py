"""Stores are opened once, in the right place, or refused at once with a reason."""

import multiprocessing
import socket
import sqlite3
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from mlflow import MlflowClient

from infra.mlflow.tracker import prepare


def test_prepare_twice_gives_one_experiment_with_its_folder(uri, experiment, client, tmp_path):
    assert prepare(uri, str(tmp_path), tmp_path / "elsewhere") == experiment
    assert client.get_experiment(experiment).artifact_location == (tmp_path / "files").as_uri()


def test_an_experiment_gets_the_tags_that_it_lacks(uri, client, tmp_path):
    made = client.create_experiment("of before")
    for value in ("first", "second"):
        assert prepare(uri, "of before", tmp_path / "files", tags={"mlflow.sharedViewState.all": value}) == made
        tags = client.get_experiment(made).tags
        assert tags["mlflow.sharedViewState.all"] == value
        assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_without_a_folder_sqlite_keeps_files_beside_the_database(uri):
    experiment = prepare(uri, "no folder", None)
    location = MlflowClient(uri).get_experiment(experiment).artifact_location
    assert location == (Path(uri.removeprefix("sqlite:///")).parent / "artifacts").as_uri()


def test_a_database_that_begins_as_a_copy_is_one_of_mlflows_own(tmp_path, monkeypatch):
    """The second database is a copy. Then the kept one is damaged, and the third is made again."""
    kept, made = tmp_path / "schemas", []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        uri = f"sqlite:///{tmp_path}/{name}/mlflow.db"
        made.append(prepare(uri, "tests", None, kept))
        (file,) = kept.iterdir()
        if name == "second":
            file.write_bytes(file.read_bytes()[:5000])
        client = MlflowClient(uri)
        assert sorted(found.name for found in client.search_experiments()) == ["Default", "tests"]
        assert Path(client.get_experiment("0").artifact_location).is_relative_to(tmp_path / name)
        run = client.create_run(made[-1])
        client.log_metric(run.info.run_id, "fid", 3.0, step=7)
        assert client.get_run(run.info.run_id).data.metrics == {"fid": 3.0}
    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    own = schema(tmp_path / "mlflow.db")
    assert all(schema(tmp_path / name / "mlflow.db") == own for name in ("first", "second", "third"))
    assert len(set(made)) == 1


def schema(file: Path) -> list[str]:
    """The lines of a schema, sorted: MLflow writes the constraints in a different order each time."""
    with closing(sqlite3.connect(file)) as connection:
        tables = [f"{name}: {sql}" for name, sql in connection.execute("SELECT name, sql FROM sqlite_master")]
    return sorted(line.strip(" ,\t") for table in tables for line in table.splitlines())


def test_a_file_that_is_no_database_is_refused_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"mlflow\.db.*not a database"):
        prepare(f"sqlite:///{tmp_path}/mlflow.db", "tests", None)
    assert time.monotonic() - started < 5


def test_a_server_that_is_not_there_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(ValueError, match=uri):
        prepare(uri, "tests", None)
    assert time.monotonic() - started < 5


def test_a_deleted_experiment_is_an_error_that_says_how_to_go_on(uri, experiment, client, tmp_path):
    client.delete_experiment(experiment)
    with pytest.raises(ValueError, match=f"restore -x {experiment}"):
        prepare(uri, str(tmp_path), None)


def test_a_password_is_not_shown():
    with pytest.raises(ValueError, match=r"//\*\*\*@127") as refused:
        prepare("http://user:secret@127.0.0.1:1", "tests", None)
    assert "secret" not in str(refused.value)


def _create(uri: str, barrier: Barrier) -> None:
    barrier.wait()
    prepare(uri, "tests", None)


@pytest.mark.full
def test_two_drivers_may_create_the_store_at_once(tmp_path, spawned):
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    barrier = multiprocessing.get_context("spawn").Barrier(2)
    assert spawned(_create, [(uri, barrier)] * 2) == [0, 0]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["mlflow.db"]
    experiments = MlflowClient(uri).search_experiments()
    assert sorted(experiment.name for experiment in experiments) == ["Default", "tests"]
