"""Whether what MLflow raises is a refusal or an absence: by a real store, and by real answers over HTTP."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient

from infra.mlflow.errors import STORE_ERRORS, reason_of, refuses
from infra.mlflow.sqlite_uri import sqlite_file
from infra.mlflow.tracker import MlflowTracker, close_run, opened_run, prepare


def raised(call) -> Exception:
    with pytest.raises(STORE_ERRORS) as caught:
        call()
    return caught.value


def opened(uri: str, experiment: str, **params: str) -> str:
    return opened_run(uri, experiment, {"ganfleet.id": "run"}, "run", None, params, {}).info.run_id


def test_a_deleted_run_is_a_refusal(uri, experiment, client):
    tracker = MlflowTracker(uri, opened(uri, experiment))
    client.delete_run(tracker.run_id)
    error = raised(lambda: tracker.metrics(1, {"images_seen": 1}))
    assert refuses(error)
    assert "deleted" in reason_of(error)


def test_a_deleted_experiment_is_a_refusal(uri, experiment, client):
    client.delete_experiment(experiment)
    error = raised(lambda: opened(uri, experiment))
    assert refuses(error)
    assert "'active' state" in reason_of(error)


@pytest.mark.parametrize("name", ["a\udce9", "x" * 300, "a//b"])
def test_a_name_that_mlflow_never_takes_is_a_refusal(uri, experiment, name):
    assert refuses(raised(lambda: opened(uri, experiment, **{name: "1"})))


def test_a_value_that_is_no_utf_8_is_a_refusal(uri, experiment):
    assert refuses(raised(lambda: opened(uri, experiment, path="fol\udce9")))


def test_a_database_that_may_only_be_read_is_a_refusal(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    experiment = prepare(uri, "tests", None)
    read_only = f"sqlite:///file:{sqlite_file(uri)}?mode=ro&uri=true"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    assert refuses(raised(lambda: MlflowClient(read_only).create_run(experiment)))


def test_a_folder_of_artifacts_that_cannot_be_made_is_a_refusal(uri, experiment, tmp_path):
    (tmp_path / "files").write_text("a file where MLflow wants a folder")
    run = opened(uri, experiment)
    assert refuses(raised(lambda: close_run(uri, run, "FINISHED", {}, {"files": tmp_path / "files"})))


@contextmanager
def answering(status: int, body: object) -> Iterator[str]:
    """A server that gives every request one answer; its URI."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "no such name"}, True),
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}, True),
        (403, {"error_code": "PERMISSION_DENIED", "message": "may not write"}, True),
        (401, "You are not authenticated.", True),
        (403, "<html>Forbidden</html>", True),
        (429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "later"}, False),
        (500, {"error_code": "INTERNAL_ERROR", "message": "oops"}, False),
        (503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is locked"}, False),
        (502, "Bad Gateway", False),
    ],
)
def test_an_answer_of_a_server(status, body, refused, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering(status, body) as uri:
        error = raised(lambda: MlflowClient(uri).set_tag("0" * 32, "note", "x"))
    assert refuses(error) == refused
    assert "\n" not in reason_of(error)


def test_no_answer_is_an_absence(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert not refuses(raised(lambda: MlflowClient(uri).set_tag("0" * 32, "note", "x")))


def test_a_password_is_not_in_a_reason():
    assert reason_of(ConnectionError("no answer from\nhttp://me:secret@host")) == "no answer from http://***@host"
