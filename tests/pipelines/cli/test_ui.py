"""`ganfleet ui`: MLflow's server on a store, from the first line to Ctrl-C."""

import os
import signal
import socket
import subprocess
import time
import urllib.request

import psutil
import pytest
from mlflow import MlflowClient

from tests.pipelines.small_runs import command, environment, ganfleet, ganfleet_here


@pytest.fixture
def taken():
    """A port of loopback where something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_where_it_cannot_listen_is_told_with_where_it_can(tmp_path, taken, monkeypatch, capsys):
    (tmp_path / "mlflow.db").write_bytes(b"")
    where = f"storage.path={tmp_path}"
    done = ganfleet_here(monkeypatch, capsys, "ui", where, "--port", taken)
    said, _, port = done.stderr.partition("; nearest: --port ")
    assert (done.returncode, done.stdout) == (2, "")
    assert said == f"error: --port={taken} is taken by another program"
    assert int(port) != taken
    socket.create_server(("127.0.0.1", int(port))).close()
    for host, why in {"192.0.2.7": "is no address of this machine", "no.such.host.invalid": ""}.items():
        done = ganfleet_here(monkeypatch, capsys, "ui", where, "--host", host)
        assert done.returncode == 2
        assert f"--host={host}" in done.stderr
        assert why in done.stderr
        assert "nearest: --host 127.0.0.1" in done.stderr


@pytest.mark.full
def test_it_says_so_once_it_answers_and_ctrl_c_ends_all_of_it(tmp_path):
    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").create_experiment("seen")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/opened\n")
    browser.chmod(0o755)
    screen = {**environment(), "DISPLAY": ":9", "BROWSER": f"{browser} %s"}
    words = command("ui", f"storage.path={tmp_path}", "--port", port)
    with subprocess.Popen(words, env=screen, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stdout if line.startswith("MLflow on "))
            page = line.split()[2]
            assert page == f"http://127.0.0.1:{port}"
            with urllib.request.urlopen(page, timeout=60) as answer:
                assert b"MLflow" in answer.read()
            for _ in range(300):
                if (tmp_path / "opened").is_file() and (tmp_path / "opened").read_text():
                    break
                time.sleep(0.1)
            assert (tmp_path / "opened").read_text() == f"{page}\n"
            started = psutil.Process(process.pid).children(recursive=True)
            assert started
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            assert [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
            socket.create_server(("127.0.0.1", port)).close()
        finally:
            process.kill()


@pytest.mark.full
def test_a_server_that_ends_is_told_and_an_open_door_is_warned_of(tmp_path):
    """The store is no database, so that the server ends before it listens anywhere."""
    (tmp_path / "mlflow.db").write_text("no database")
    done = ganfleet(tmp_path, "ui", "storage.path=.", "--host", "0.0.0.0", "--port", 20000 + os.getpid() % 10000)
    assert done.returncode == 1
    assert "warning: --host=0.0.0.0: MLflow asks for no password" in done.stderr
    assert "error: MLflow's server ended with 1 before it answered" in done.stderr
    assert "MLflow on" not in done.stdout
