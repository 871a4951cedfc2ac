"""Real servers that keep MLflow's runs, on free ports of loopback: PostgreSQL, and MLflow's own before it with its
artifacts in S3."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3

from tests.servers import SECONDS, Server, free_ports, running


@dataclass(frozen=True)
class Tracking:
    """MLflow's server."""

    url: str
    database: str
    """The URI of the PostgreSQL behind it."""
    store: Server
    """The S3 where it keeps artifacts."""
    log: Path
    """What it was asked, a line a request."""


ABSENT = "PostgreSQL is not installed, or this is not root: apt-get install postgresql"
_USER, _PASSWORD, _DATABASE = "mlflow", "secret", "mlflow"


def postgres_commands() -> Path | None:
    """The folder of the newest PostgreSQL's programs, if one can be started here: it refuses to run as root, and is
    given to its own user."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found and os.geteuid() == 0 and shutil.which("setpriv") else None


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, as pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="ganfleet-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres(folder: Path, programs: Path) -> Iterator[str]:
    """PostgreSQL with an empty database; its URI as SQLAlchemy takes it. `folder` is an `open_folder`."""
    (port,) = free_ports(1)
    data = folder / "data"
    data.mkdir()
    password = folder / "password"
    password.write_text(_PASSWORD)
    for path in (data, password):
        shutil.chown(path, "postgres", "postgres")
    made = [programs / "initdb", "-D", data, "-A", "scram-sha-256", "-U", _USER, f"--pwfile={password}", "-N"]
    subprocess.run(_as_postgres(made), check=True, capture_output=True)
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
    }
    settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with (folder / "postgres.log").open("ab") as log:
        server = subprocess.Popen(
            _as_postgres([programs / "postgres", "-D", data, "-p", port, *settings]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(port, server, folder / "postgres.log")
        _create(port)
        yield f"postgresql+psycopg2://{_USER}:{_PASSWORD}@127.0.0.1:{port}/{_DATABASE}"
    finally:
        server.send_signal(signal.SIGINT)  # its fast shutdown: SIGKILL would leave shared memory behind
        server.wait(SECONDS)


def _as_postgres(command: list[object]) -> list[str]:
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "env", "-C", "/", "LC_ALL=C.UTF-8"]
    return [*user, *map(str, command)]


def _wait(port: int, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL does not listen: {log.read_text()[-2000:]}")


def _create(port: int) -> None:
    import psycopg2

    end = time.monotonic() + SECONDS
    while True:
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=port, user=_USER, password=_PASSWORD, dbname="postgres"
            )
            break
        except psycopg2.OperationalError:  # it listens before it lets anyone in
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    connection.autocommit = True
    connection.cursor().execute(f"create database {_DATABASE}")
    connection.close()


@contextmanager
def tracking_server(store: Server, programs: Path) -> Iterator[Tracking]:
    """MLflow's server on PostgreSQL and S3."""
    with (
        open_folder() as folder,
        postgres(folder, programs) as database,
        mlflow_server(folder, database, store) as url,
    ):
        yield Tracking(url, database, store, folder / "mlflow.log")


@contextmanager
def mlflow_server(folder: Path, backend: str, store: Server) -> Iterator[str]:
    """MLflow's server, which alone knows the database and the S3 that its artifacts lie in; its URL."""
    (port,) = free_ports(1)
    _make_bucket(store)
    asked = {
        "AWS_ACCESS_KEY_ID": store.key,
        "AWS_SECRET_ACCESS_KEY": store.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_S3_ENDPOINT_URL": store.url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes, that nobody asks for anything
    }
    command = ["env", *(f"{name}={value}" for name, value in asked.items()), sys.executable, "-m", "mlflow", "server"]
    command += ["--backend-store-uri", backend, "--artifacts-destination", f"s3://{BUCKET}/runs"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    with running([command], f"{url}/health", folder / "mlflow.log", seconds=4 * SECONDS):
        yield url


class Guard:
    """Stands before a server and lets in who has the password, as a reverse proxy does; others are told 401."""

    def __init__(self, server: str, name: str, password: str) -> None:
        wanted = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") != wanted:
                    self.answer(401, b"You are not authenticated.")
                    return
                kept = {name: value for name, value in self.headers.items() if name not in ("Host", "Authorization")}
                asked = urllib.request.Request(server + self.path, body or None, kept, method=self.command)
                try:
                    with urllib.request.urlopen(asked) as answer:
                        self.answer(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    self.answer(error.code, error.read())

            def do_POST(self) -> None:
                self.do_GET()

            def do_PUT(self) -> None:
                self.do_GET()

            def answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


BUCKET = "mlflow"


def _make_bucket(store: Server) -> None:
    about = {"aws_access_key_id": store.key, "aws_secret_access_key": store.secret, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=store.url, **about)
    if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=BUCKET)
