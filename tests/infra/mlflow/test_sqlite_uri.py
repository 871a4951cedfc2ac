"""The URI of a database in a folder of any name, read by SQLAlchemy and MLflow."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from infra.mlflow.sqlite_uri import sqlite_file, sqlite_uri
from infra.mlflow.tracker import MlflowTracker, close_run, opened_run, prepare

NAMES = ["plain", "a b", "größe", "50%", "%zz", "a%20b", "%3F", "why?", "a?mode=ro&uri=true", "tag#1", "a+b;c=d@e:f"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inside", ["mlflow.db", "deep/er?/mlflow.db"])
def test_sqlalchemy_reads_the_path_that_was_written(name, inside):
    file = Path("/data", name, inside)
    uri = sqlite_uri(file)
    assert make_url(uri).database == str(file)
    assert not make_url(uri).query
    assert sqlite_file(uri) == file


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_that_mlflow_makes_for_it_is_one_that_there_is(name):
    """MLflow takes the URI's text for a path, without decoding it."""
    file = Path("/data/runs", name, "mlflow.db")
    assert Path(sqlite_uri(file).removeprefix("sqlite:///")).parent in file.parents


def test_a_path_without_such_characters_stays_as_it_is():
    assert sqlite_uri(Path("/my runs/über/mlflow.db")) == "sqlite:////my runs/über/mlflow.db"


def test_each_folder_has_its_own_database_and_files_and_nothing_lies_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    (tmp_path / "note").write_text("x")
    names = ["q", "q?uestion", "q%3Fuestion", "#50% ü"]
    for name in names:
        root = tmp_path / "stores" / name
        uri = sqlite_uri(root / "mlflow.db")
        experiment = prepare(uri, "tests", root / "mlartifacts", tmp_path / "sche?mas%41")
        run = opened_run(uri, experiment, {"ganfleet.id": name}, name, None, {}, {}).info.run_id
        MlflowTracker(uri, run).metrics(1, {"images_seen": 64})
        close_run(uri, run, "FINISHED", {}, {"note": tmp_path / "note"})
        assert MlflowClient(uri).list_artifacts(run)[0].path == "note"
        assert (root / "mlartifacts" / run / "artifacts" / "note").read_text() == "x"
    for name in names:
        with closing(sqlite3.connect(":memory:")) as copy:
            copy.deserialize((tmp_path / "stores" / name / "mlflow.db").read_bytes())
            assert copy.execute("select name from runs").fetchall() == [(name,)]
    assert sorted(path.name for path in (tmp_path / "stores").iterdir()) == sorted(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cwd", "note", "sche?mas%41", "stores"]
    assert list((tmp_path / "cwd").iterdir()) == []
