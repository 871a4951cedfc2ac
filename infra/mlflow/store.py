"""The store behind MLflow runs: opened once by the driver, then shared by any number of processes."""

import logging
import os
import sqlite3
import tempfile
import uuid
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

# Read while mlflow is imported: send no usage data unasked; print no link when a server's run is closed, and no bar.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Read at each request. MLflow's own patience is four minutes a call: what can wait is sent later by ourselves.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from infra.files import write_atomic
from infra.passwords import masked

PROBE_SECONDS = 5.0

UNAVAILABLE = (MlflowException, SQLAlchemyError, OSError)
"""What a store raises that cannot be reached, or not now. (Errors of requests are OSErrors.)"""


class NoAnswerError(ValueError):
    """A server that does not answer, or is in trouble: it may be in order later."""


logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


@cache
def client_of(uri: str) -> MlflowClient:
    """The process's one client of this store."""
    return MlflowClient(tracking_uri=uri)


KIND = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's pages then open as those of trained models, with charts and pictures, not of chat traces."""


def prepare(uri: str, experiment: str, artifacts: Path | None, schemas: Path | None = None) -> str:
    """Make the store ready for several processes and return the experiment's id.

    Creates a SQLite file (`sqlite:////DIR/mlflow.db`: folder and schema) or checks that a server answers, then finds or
    creates the experiment. A new experiment keeps its files under `artifacts`; with None the server decides, and
    SQLite takes the folder `artifacts` beside its file. Several drivers may call this at once. MLflow takes seconds to
    make a database: an empty one is kept in the folder `schemas`, if given, and the next begins as a copy of it.

    Raises:
        ValueError: the store cannot be opened, the server does not answer within seconds, or the
            experiment was deleted.
    """
    if uri.startswith("sqlite:"):
        file = Path(uri.removeprefix("sqlite:///"))
        _open_sqlite(uri, file, schemas)
        artifacts = file.parent / "artifacts" if artifacts is None else artifacts
    else:
        ask_server(uri, experiment)
    try:
        return _experiment_id(client_of(uri), experiment, artifacts)
    except (MlflowException, SQLAlchemyError, CommandError) as error:
        raise _refusal(uri, str(error)) from error


def _refusal(uri: str, reason: str, kind: type[ValueError] = ValueError) -> ValueError:
    reason = " ".join(reason.split())[:300]
    return kind(masked(f"tracking uri {uri!r}: {reason}"))


def _experiment_id(client: MlflowClient, name: str, artifacts: Path | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        # MLflow's default with a database is ./mlruns of whichever process comes first.
        location = None if artifacts is None else artifacts.absolute().as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=KIND))
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
    return str(found.experiment_id)


def _open_sqlite(uri: str, file: Path, schemas: Path | None) -> None:
    # MLflow itself retries for 100 s on a file that cannot be opened.
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
    # MLflow migrates a new file in place and without a lock: two at once, or a crash, leave one that
    # can never be opened. So the schema is made elsewhere, and whoever links it first has made it.
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.write_bytes(_made_schema() if schemas is None else _kept_schema(schemas))
        os.link(aside, file)
    except FileExistsError:
        pass
    except OSError:
        aside.replace(file)  # a filesystem without hard links
    finally:
        aside.unlink(missing_ok=True)


def _made_schema() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mlflow.db")
        MlflowClient(tracking_uri=f"sqlite:///{file}")
        with closing(sqlite3.connect(file)) as connection, connection:
            # Its files would lie where this process works. Whoever opens the store first makes it anew.
            connection.execute("DELETE FROM experiments WHERE name = 'Default'")
        return file.read_bytes()


def _kept_schema(schemas: Path) -> bytes:
    """An empty database of this version of MLflow; made anew if it is not whole."""
    kept = schemas / f"mlflow-{mlflow.__version__}.db"
    with suppress(OSError, sqlite3.Error), closing(sqlite3.connect(f"file:{kept}?mode=ro", uri=True)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchone() == ("ok",):
            return kept.read_bytes()
    schema = _made_schema()
    with suppress(OSError):  # of use to the next alone
        schemas.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, schema)
    return schema


def ask_server(uri: str, experiment: str) -> None:
    """Asks once whether a server is in order. Raises NoAnswerError if none answers within seconds, ValueError if
    it refuses."""
    # A real call without retries. MLflow's own loop takes minutes, and /health says nothing about
    # credentials, the database behind the server, or whether it is MLflow that answers.
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
    """Which of the environment's it was asked with, and what it might want."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if name and os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        return f"MLFLOW_TRACKING_USERNAME={name} with this MLFLOW_TRACKING_PASSWORD"
    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return "this MLFLOW_TRACKING_TOKEN"
    return "to answer without MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
