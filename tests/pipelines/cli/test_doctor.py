"""`ganfleet doctor`: each thing that a run needs, and the report where one is wrong."""

import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest

from infra import health
from infra.health import CheckFailedError, check_server, check_store, cluster_nodes
from infra.stores import open_store
from infra.stores.local import LocalStore
from infra.stores.protocol import RefusedError
from infra.versions import version_of
from pipelines.cli.commands._doctor import Finding, _program, _storage, same_versions
from pipelines.settings._experiments import CommonSettings
from tests.pipelines.small_runs import ganfleet


def test_this_machine_is_well(tmp_path):
    done = ganfleet(tmp_path, "doctor", f"storage.path={tmp_path / 'runs'}")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.startswith("ok ") for line in lines)
    about = [line.split()[1] for line in lines]
    assert about == ["python", "packages", "torch", "cuda", "cache", "sbatch", "kubectl", "storage", "tracking", "ray"]


def test_programs_are_told_with_their_versions_or_as_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    absent = "ok     sbatch     not here; only submit --to slurm --apply needs it"
    assert str(_program("sbatch", "--version", "submit --to slurm")) == absent
    for name, lines in {"sbatch": "echo slurm 23.11.4", "kubectl": "echo no cluster >&2; exit 3"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    found = _program("sbatch", "--version", "submit --to slurm")
    assert (found.ok, found.detail) == (True, f"slurm 23.11.4, {tmp_path}/sbatch")
    broken = _program("kubectl", "version --client", "submit --to kuberay").detail
    assert broken == f"{tmp_path}/kubectl does not work: no cluster; only submit --to kuberay --apply needs it"


def test_what_is_wrong_is_told_and_the_exit_code_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    done = ganfleet(tmp_path, "doctor", "storage.path=file", "tracking.uri=http://127.0.0.1:9")
    assert done.returncode == 1
    wrong = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("WRONG")}
    assert wrong.keys() == {"storage", "tracking"}
    assert "storage.path=" in wrong["storage"]
    assert "nearest:" in wrong["storage"]
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
    with pytest.raises(CheckFailedError, match="is MLflow 1.30.0, here is .*; install the same major version"):
        check_server(answering(200, "1.30.0"))
    with pytest.raises(CheckFailedError, match="answers 403; give the server --allowed-hosts"):
        check_server(answering(403, ""))
    with pytest.raises(CheckFailedError, match="answers 404; is it MLflow"):
        check_server(answering(404, ""))


def stored(place: str, **more: str) -> str:
    """What doctor says of a storage path."""
    return _storage(
        CommonSettings().override(f"storage.path={place}", *(f"storage.{key}={value}" for key, value in more.items()))
    )


def test_a_folder_is_left_as_it_was(tmp_path):
    assert check_store(open_store(str(tmp_path / "new"))).endswith("wrote, read and deleted a key")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_bucket_is_left_as_it_was(moto_server, monkeypatch):
    moto_server.be_asked(monkeypatch)
    client = boto3.session.Session().client("s3", endpoint_url=moto_server.url)
    client.create_bucket(Bucket="examined")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    said = stored("s3://examined/runs", endpoint_url=moto_server.url)
    assert said == "s3://examined/runs: wrote, read and deleted a key"
    assert client.list_objects_v2(Bucket="examined")["KeyCount"] == 0
    wrong = "could not write: there is no bucket absent; nearest: a bucket or folder"
    with pytest.raises(CheckFailedError, match=wrong):
        stored("s3://absent", endpoint_url=moto_server.url)


class Refusing(LocalStore):
    """Refuses one operation."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(folder)
        setattr(self, what, self._no)

    def _no(self, *_: object) -> None:
        raise RefusedError(f"{self.url}: access denied (403)")


@pytest.mark.parametrize("what", ["write", "read", "delete"])
def test_what_a_store_refuses_is_named(tmp_path, what):
    with pytest.raises(RefusedError, match=rf"could not {what}: .* access denied \(403\)"):
        check_store(Refusing(tmp_path, what))


def test_a_store_that_is_not_there_is_told_with_what_to_set(monkeypatch):
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(CheckFailedError, match="no answer from http://127.0.0.1:9.*nearest: storage.endpoint_url="):
        stored("s3://gans", endpoint_url="http://127.0.0.1:9")


def test_other_versions_on_a_node_are_named():
    here = {"python": "3.11.9", "torch": "2.15.0"}
    nodes = [{"node": "10.0.0.1", "versions": here}, {"node": "10.0.0.2", "versions": here | {"torch": "2.14.0"}}]
    assert "equal on all 1 nodes" in same_versions(nodes[:1], here)
    with pytest.raises(CheckFailedError, match="torch is 2.14.0 on 10.0.0.2, 2.15.0 here; install the same"):
        same_versions(nodes, here)


def test_a_cluster_that_does_not_answer_is_given_up_on(monkeypatch):
    monkeypatch.setattr(health, "SECONDS", 1)
    monkeypatch.setattr(health, "PROBE", "import time; time.sleep(30)")
    with pytest.raises(CheckFailedError, match="did not answer in 1 s; check RAY_ADDRESS"):
        cluster_nodes()


def test_a_refused_token_is_told_as_such(monkeypatch):
    monkeypatch.setattr(health, "PROBE", "raise SystemExit('AuthenticationError: the authentication token is invalid')")
    with pytest.raises(CheckFailedError, match="set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN"):
        cluster_nodes()


def test_the_probe_is_python():
    compile(health.PROBE, "probe", "exec")
    assert re.match(r"ok +python +3", str(Finding("python", True, sys.version)))
