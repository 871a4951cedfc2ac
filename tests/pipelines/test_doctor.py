"""`ganfleet doctor`: each thing that a run stands on, and what is said where it is wrong."""

import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from infra import health
from infra.health import UnwellError, check_bucket, check_folder, check_server, cluster_nodes
from infra.versions import version_of
from pipelines.doctor import Finding, same_versions
from tests.pipelines.tiny import command, environment


def test_this_machine_is_well(tmp_path):
    words = command("doctor", f"storage.path={tmp_path / 'runs'}")
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.startswith("ok ") for line in lines)
    about = [line.split()[1] for line in lines]
    assert about == ["python", "packages", "torch", "cuda", "storage", "tracking", "ray"]


def test_what_is_wrong_is_told_and_the_exit_code_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    words = command("doctor", "storage.path=file", "tracking.uri=http://127.0.0.1:9")
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    wrong = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("WRONG")}
    assert wrong.keys() == {"storage", "tracking"}
    assert "name another storage.path" in wrong["storage"]
    assert "start it, or name another tracking.uri" in wrong["tracking"]


@pytest.fixture
def answering():
    """A server that answers every GET with a code and a text."""
    servers = []

    def serve(code: int, text: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_tracking_server_is_asked_for_its_version(answering):
    ours = version_of("mlflow")
    assert check_server(answering(200, ours)).endswith(f"MLflow {ours} (here {ours})")
    with pytest.raises(UnwellError, match="is MLflow 1.30.0, here is .*; install the same major version"):
        check_server(answering(200, "1.30.0"))
    with pytest.raises(UnwellError, match="answers 403; give the server --allowed-hosts"):
        check_server(answering(403, ""))
    with pytest.raises(UnwellError, match="answers 404; is it MLflow"):
        check_server(answering(404, ""))


def test_a_folder_is_left_as_it_was(tmp_path):
    assert "wrote, read and deleted" in check_folder(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


class Refusing:
    """boto3's client, whose `at` is refused with `code`."""

    def __init__(self, at: str = "", code: str = "") -> None:
        self.at, self.code, self.keys = at, code, {}

    def _do(self, what: str) -> None:
        from botocore.exceptions import ClientError

        if what == self.at:
            raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, what)

    def head_bucket(self, Bucket: str) -> None:
        self._do("head")

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:
        self._do("put")
        self.keys[Key] = Body

    def get_object(self, Bucket: str, Key: str) -> dict:
        import io

        self._do("get")
        return {"Body": io.BytesIO(self.keys[Key])}

    def delete_object(self, Bucket: str, Key: str) -> None:
        self._do("delete")
        del self.keys[Key]


@pytest.mark.parametrize(
    ("at", "code", "said"),
    [
        ("head", "404", "there is no bucket gans; make it"),
        ("head", "403", "refuses to head the bucket"),
        ("put", "AccessDenied", "its rights to put"),
        ("delete", "AccessDenied", "its rights to delete"),
        ("get", "SlowDown", "could not get: SlowDown no"),
    ],
)
def test_a_bucket_that_refuses_is_told_with_what_it_refuses(monkeypatch, at, code, said):
    import boto3

    monkeypatch.setattr(boto3, "client", lambda *_, **__: Refusing(at, code))
    with pytest.raises(UnwellError, match=said):
        check_bucket("gans", "runs")


def test_a_bucket_is_left_as_it_was(monkeypatch):
    import boto3

    store = Refusing()
    monkeypatch.setattr(boto3, "client", lambda *_, **__: store)
    assert check_bucket("gans", "runs/") == "s3://gans: put, got and deleted a key"
    assert store.keys == {}


def test_a_store_that_is_not_there_is_told_with_what_to_set(monkeypatch):
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(UnwellError, match="set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL"):
        check_bucket("gans", "")


def test_other_versions_on_a_node_are_named():
    here = {"python": "3.11.9", "torch": "2.15.0"}
    nodes = [{"node": "10.0.0.1", "versions": here}, {"node": "10.0.0.2", "versions": here | {"torch": "2.14.0"}}]
    assert "equal on all 1 nodes" in same_versions(nodes[:1], here)
    with pytest.raises(UnwellError, match="torch is 2.14.0 on 10.0.0.2, 2.15.0 here; install the same"):
        same_versions(nodes, here)


def test_a_cluster_that_does_not_answer_is_given_up_on(monkeypatch):
    monkeypatch.setattr(health, "SECONDS", 1)
    monkeypatch.setattr(health, "PROBE", "import time; time.sleep(30)")
    with pytest.raises(UnwellError, match="did not answer in 1 s; check RAY_ADDRESS"):
        cluster_nodes()


def test_a_refused_token_is_told_as_such(monkeypatch):
    monkeypatch.setattr(health, "PROBE", "raise SystemExit('AuthenticationError: the authentication token is invalid')")
    with pytest.raises(UnwellError, match="set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN"):
        cluster_nodes()


def test_the_probe_is_python():
    compile(health.PROBE, "probe", "exec")
    assert re.match(r"ok +python +3", str(Finding("python", True, sys.version)))
