"""The store behind MLflow's runs. The driver prepares it once; then any number of processes use it."""

import logging
import os
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

# mlflow reads these when it is imported: it shall send no usage data, print no link to a closed run, show no bar.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# mlflow reads these at each request. By default a call is retried for four minutes; a Follower retries later instead.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from infra.files import hidden_name, write_atomic
from infra.mlflow.sqlite_uri import sqlite_file, sqlite_uri
from infra.passwords import masked

PROBE_SECONDS = 5.0


class NoAnswerError(ValueError):
    """The server does not answer, or reports an error of its own. It may answer later."""


logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


@cache
def client_of(uri: str) -> MlflowClient:
    """The process's one client of this store."""
    return MlflowClient(tracking_uri=uri)


KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of an experiment: MLflow then takes it for the training of models, not for chats."""


def prepare(
    uri: str,
    experiment: str,
    artifacts: Path | None,
    schemas: Path | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Prepares the store for several processes and returns the experiment's id. Several drivers may call it at once.

    Creates a SQLite file with its folder and schema (`sqlite:////DIR/mlflow.db`), or checks that a server answers. Then
    finds or creates the experiment, and sets its `tags`. A new experiment keeps its files under `artifacts`; if that is
    None, the server decides, and SQLite takes the folder `artifacts` next to its file. MLflow takes seconds to make a
    database: an empty one is kept in the folder `schemas`, if given, and later databases begin as copies of it.

    Raises:
        ValueError: the store cannot be opened, the server does not answer within seconds, or the
            experiment was deleted.
    """
    if uri.startswith("sqlite:"):
        file = sqlite_file(uri)
        _open_sqlite(uri, file, schemas)
        artifacts = file.parent / "artifacts" if artifacts is None else artifacts
    else:
        ask_server(uri, experiment)
    try:
        return _experiment_id(client_of(uri), experiment, artifacts, {**KIND, **(tags or {})})
    except (MlflowException, SQLAlchemyError, CommandError) as error:
        raise _refusal(uri, str(error)) from error


def _refusal(uri: str, reason: str, kind: type[ValueError] = ValueError) -> ValueError:
    reason = " ".join(reason.split())[:300]
    return kind(masked(f"tracking uri {uri!r}: {reason}"))


def _experiment_id(client: MlflowClient, name: str, artifacts: Path | None, tags: Mapping[str, str]) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        # With a database, MLflow's default is ./mlruns in the working folder of the first process.
        location = None if artifacts is None else artifacts.absolute().as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=dict(tags)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    assert found is not None
    if found.lifecycle_stage != "active":
        raise ValueError(
            f"experiment {name!r} was deleted: take another name or restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`"
        )
    for key, value in tags.items():
        if found.tags.get(key) != value:
            with suppress(MlflowException):  # the experiment may belong to others; then its pages stay as they are
                client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


def _open_sqlite(uri: str, file: Path, schemas: Path | None) -> None:
    # If a file cannot be opened, MLflow itself retries for 100 s.
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _create_sqlite(file, schemas)
        with closing(sqlite3.connect(file, timeout=PROBE_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except (OSError, sqlite3.Error) as error:
        raise _refusal(uri, f"cannot be opened: {error}") from error


def _create_sqlite(file: Path, schemas: Path | None) -> None:
    # MLflow migrates a new file in place and without a lock: two processes at once, or a crash, leave a file that can
    # never be opened. So the schema is made elsewhere, and the first process that links it to the name wins.
    with hidden_name(file) as aside:
        try:
            aside.write_bytes(_made_schema() if schemas is None else _kept_schema(schemas))
            os.link(aside, file)
        except FileExistsError:
            pass
        except OSError:
            aside.replace(file)  # the file system has no hard links


def _made_schema() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mlflow.db")
        MlflowClient(tracking_uri=sqlite_uri(file.absolute()))
        with closing(sqlite3.connect(file)) as connection, connection:
            # Its files would lie in this process's working folder. MLflow makes it again when the store is opened.
            connection.execute("DELETE FROM experiments WHERE name = 'Default'")
        return file.read_bytes()


def _kept_schema(schemas: Path) -> bytes:
    """An empty database of this version of MLflow. It is made again if the kept one is damaged."""
    kept = schemas / f"mlflow-{mlflow.__version__}.db"
    with suppress(OSError, sqlite3.Error), closing(_opened_to_read(kept)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchone() == ("ok",):
            return kept.read_bytes()
    schema = _made_schema()
    with suppress(OSError):  # only later calls would use it
        schemas.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, schema)
    return schema


def _opened_to_read(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


def ask_server(uri: str, experiment: str) -> None:
    """Checks a server by one call. Raises NoAnswerError if none answers within seconds, ValueError if it refuses."""
    # This is a real call without retries: MLflow's own retries take minutes, and /health does not check credentials,
    # nor the database behind the server, nor whether it is MLflow that answers.
    try:
        answer = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/get-by-name",
            "GET",
            params={"experiment_name": experiment},
            max_retries=0,
            timeout=PROBE_SECONDS,
            raise_on_status=False,
        )
    except MlflowException as error:
        cause: BaseException = error
        while cause.__context__ is not None:
            cause = cause.__context__
        raise _refusal(uri, f"no MLflow server answers: {cause}", NoAnswerError) from error
    if answer.status_code == 401:
        raise _refusal(uri, f"the server refuses {_credentials()}: {answer.status_code} {answer.text}")
    absent = answer.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in answer.text
    if answer.status_code != 200 and not absent:
        kind = NoAnswerError if answer.status_code >= 500 else ValueError
        raise _refusal(uri, f"what answers is no MLflow server in order: {answer.status_code} {answer.text}", kind)


def _credentials() -> str:
    """The credentials of the environment, as the error names them."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if name and os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        return f"MLFLOW_TRACKING_USERNAME={name} with this MLFLOW_TRACKING_PASSWORD"
    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return "this MLFLOW_TRACKING_TOKEN"
    return "to answer without MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
