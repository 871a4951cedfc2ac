"""What breaks runs on purpose breaks what it says, and what looks for losses finds them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.faults.attempts import Game, counting, folder_losses
from tests.faults.faulty_server import CALLS, Deadly, FaultyServer, kind_of


def _run(folder: Path) -> Path:
    """A run folder with two rows, one picture and one checkpoint."""
    checkpoint = folder / "checkpoints" / "step-000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.safetensors").write_bytes(b"weights")
    (folder / "samples").mkdir()
    (folder / "samples" / "step-000004.png").write_bytes(b"png")
    rows = [{"step": step, "fid": 3.0 + step, "images_per_second": 100.0 * step} for step in (2, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _other_weights(folder: Path) -> None:
    (folder / "checkpoints" / "step-000004" / "state.safetensors").write_bytes(b"weightz")


def _earlier_checkpoint(folder: Path) -> None:
    os.replace(folder / "checkpoints" / "step-000004", folder / "checkpoints" / "step-000002")


def _row_twice(folder: Path) -> None:
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text + text.splitlines(keepends=True)[-1])


def _other_value(folder: Path) -> None:
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text.replace("7.0", "7.1"))


def _no_picture(folder: Path) -> None:
    (folder / "samples" / "step-000004.png").unlink()


def _leftover(folder: Path) -> None:
    (folder / "samples" / ".step-000004.png.1.tmp").touch()


def test_two_equal_runs_have_lost_nothing_but_speed(tmp_path):
    quiet, other = _run(tmp_path / "quiet"), _run(tmp_path / "other")
    text = (other / "metrics.jsonl").read_text()
    (other / "metrics.jsonl").write_text(text.replace("400.0", "1.0"))
    assert folder_losses(other, quiet) == []


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_other_weights, "the weights of step-000004"),
        (_earlier_checkpoint, "the weights of step-000002"),
        (_row_twice, "2 rows are 3"),
        (_other_value, "1 of them others"),
        (_no_picture, "pictures: []"),
        (_leftover, "1 unfinished files"),
    ],
)
def test_a_loss_is_named(tmp_path, damage, named):
    quiet, other = _run(tmp_path / "quiet"), _run(tmp_path / "other")
    damage(other)
    (found,) = folder_losses(other, quiet)
    assert named in found


@pytest.mark.parametrize("fatal", [1, 3])
def test_the_process_dies_at_the_chosen_rename_below_the_folder(tmp_path, fatal):
    below, beside = tmp_path / "run", tmp_path / "other"
    below.mkdir()
    beside.mkdir()
    script = (
        "import os, pathlib, sys\n"
        "for n in range(4):\n"
        "    for place in map(pathlib.Path, sys.argv[1:]):\n"
        "        (place / 'a').touch(); os.replace(place / 'a', place / str(n))\n"
    )
    variables = {**os.environ, **counting(below, tmp_path / "counter", fatal)}
    done = subprocess.run([sys.executable, "-c", script, beside, below], env=variables, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(os.listdir(below)) == fatal - 1 + 1  # those that were renamed, and the file of the fatal one
    assert (below / "a").exists()


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    taken: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.taken.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def recorder() -> Iterator[tuple[str, list[str]]]:
    """A server that takes every call; its address and the paths of the calls."""
    taken: list[str] = []
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Recorder,), {"taken": taken}))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", taken
    http.shutdown()
    http.server_close()


def _post(url: str, path: str = "/api/2.0/mlflow/runs/create") -> int:
    return urllib.request.urlopen(urllib.request.Request(url + path, b"{}", method="POST"), timeout=20).status


@pytest.mark.parametrize(("mode", "taken"), [("away", 0), ("500", 0), ("answer lost", 1)])
def test_a_server_that_misbehaves(recorder, mode, taken):
    server = FaultyServer(recorder[0])
    try:
        assert _post(server.url) == 200
        server.mode = mode
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            _post(server.url)
        server.reset()
        assert _post(server.url) == 200
        assert len(recorder[1]) == 2 + taken
    finally:
        server.close()


@pytest.mark.parametrize("taken", [True, False])
def test_whoever_makes_the_chosen_call_is_killed(recorder, taken):
    server = FaultyServer(recorder[0])
    server.deadly = Deadly("start", 2, taken)
    script = "import sys, urllib.request\nfor n in range(3): urllib.request.urlopen(sys.argv[1], b'{}')"
    try:
        url = f"{server.url}/api/2.0/mlflow/runs/create"
        process = subprocess.Popen([sys.executable, "-c", script, url])
        assert process.wait(30) == -signal.SIGKILL
        assert server.deadly.killed == process.pid
        assert len(recorder[1]) == 1 + taken
    finally:
        server.close()


@pytest.mark.parametrize(
    ("request_line", "body", "kind"),
    [
        ("POST /api/2.0/mlflow/runs/create", b"{}", "start"),
        ("POST /api/2.0/mlflow/runs/log-batch", b'{"metrics": [{}]}', "log-batch"),
        ("POST /api/2.0/mlflow/runs/log-batch", b'{"tags": [{}]}', None),
        ("PUT /api/2.0/mlflow-artifacts/artifacts/1/a/artifacts/images/x.png", b"x", "image"),
        ("PUT /api/2.0/mlflow-artifacts/artifacts/1/a/artifacts/checkpoint/x", b"x", "artifact"),
        ("POST /api/2.0/mlflow/runs/update", b'{"status": "FINISHED"}', "end"),
        ("POST /api/2.0/mlflow/runs/update", b'{"status": "RUNNING"}', None),
        ("GET /api/2.0/mlflow/runs/get", b"", None),
    ],
)
def test_the_kind_of_a_call(request_line, body, kind):
    assert kind_of(*request_line.split(), body) == kind
    assert kind is None or kind in CALLS


def test_a_game_shows_its_progress(tmp_path):
    game = Game("began", 1)
    assert game.progress(tmp_path) == 0
    shutil.copy(_run(tmp_path / "run") / "metrics.jsonl", tmp_path)
    assert game.progress(tmp_path) == pytest.approx(2 / 40)
