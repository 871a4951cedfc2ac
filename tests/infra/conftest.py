import multiprocessing
from collections.abc import Callable

import pytest
from mlflow import MlflowClient

from infra.mlflow.tracker import prepare


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The uri of one SQLite store for all tests, an experiment each: a new one takes MLflow a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/store/mlflow.db"


@pytest.fixture
def uri(store):
    return store


@pytest.fixture
def experiment(uri, tmp_path):
    return prepare(uri, str(tmp_path), tmp_path / "files")


@pytest.fixture
def client(uri, experiment):
    return MlflowClient(uri)


@pytest.fixture
def spawned():
    """Runs a function in one fresh process per tuple of arguments, all at once; gives their exit codes."""

    def run(work: Callable[..., None], arguments: list[tuple]) -> list[int | None]:
        spawn = multiprocessing.get_context("spawn")
        processes = [spawn.Process(target=work, args=args) for args in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]

    return run
