"""Ray Jobs on a cluster of its own with token authentication: submit, follow, stop, and the same again goes on."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.runs._folder import RunFolder
from tests.guide import walked
from tests.pipelines.small_runs import OWN_GAN, SMALL, command, rows

NAME, ROUNDS, EVERY = "afar", 2500, 100
WORDS = (
    *(
        "train",
        "own_gan:Own",
        "compute.ship=mine",
        *SMALL,
        "family.n_critic=1",
        f"name={NAME}",
        f"budget.rounds={ROUNDS}",
    ),
    *(f"budget.log_every={EVERY}", f"budget.eval_every={ROUNDS}", f"budget.checkpoint_every={EVERY}"),
)


@dataclass(frozen=True)
class Remote:
    """A cluster that is reached with a token only, and the folder of whoever submits to it."""

    url: str
    gcs: str
    """The address that RAY_ADDRESS takes."""
    token: str
    place: Path

    def ganfleet(self, *words: str, token: str | None = None, joined: bool = False) -> subprocess.CompletedProcess[str]:
        where = {"RAY_ADDRESS": self.gcs} if joined else {"RAY_DASHBOARD_ADDRESS": self.url}
        environment = {**clean(token or self.token), **where}
        return subprocess.run(
            command(*words), cwd=self.place, env=environment, capture_output=True, text=True, check=False, timeout=200
        )


def clean(token: str) -> dict[str, str]:
    """An environment of no other cluster, with this token."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {**kept, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "COLUMNS": "200", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def ray_head(tmp_path_factory) -> Iterator[Remote]:
    """`ray start --head` on free ports of loopback, ended by its own process; its sockets need a short path."""
    folder, token = Path(tempfile.mkdtemp(prefix="gf-", dir="/tmp")), secrets.token_hex(32)
    programs = Path(sys.executable).parent
    words = ["--head", "--block", "--node-ip-address=127.0.0.1", "--port=0", "--dashboard-port=0", "--num-cpus=2"]
    words += ["--dashboard-agent-listen-port=0", f"--ray-client-server-port={20000 + os.getpid() % 20000}"]
    with (folder / "out").open("w") as out:
        head = subprocess.Popen(
            [str(programs / "ray"), "start", *words, f"--temp-dir={folder}"],
            env={**clean(token), "PATH": f"{programs}:{os.environ['PATH']}"},
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: "dashboard at" in (folder / "out").read_text().lower() or head.poll() is not None, folder / "out")
        url = next(
            word
            for word in (folder / "out").read_text().replace("'", " ").split()
            if word.startswith(("http://127.0.0.1", "127.0.0.1")) and "RAY" not in word and word.count(":") >= 1
        )
        url, gcs = url if "://" in url else f"http://{url}", (folder / "ray_current_cluster").read_text()
        yield Remote(url, gcs, token, tmp_path_factory.mktemp("place"))
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def until(found: Callable[[], object], log: Path, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, log.read_text()[-3000:] if log.exists() else "nothing was written"
        time.sleep(0.3)


def test_a_job_is_submitted_stopped_and_gone_on_with(ray_head):
    """Its family is in a folder that is not there any more when it plays."""
    folder, mine = RunFolder(ray_head.place / "runs" / NAME), ray_head.place / "mine"
    mine.mkdir()
    (mine / "own_gan.py").write_text(OWN_GAN)
    refused = ray_head.ganfleet("submit", "--to", "ray", *WORDS, token="0" * 64)
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: the Ray cluster at {ray_head.url} refuses the token")
    assert not folder.path.exists()

    first = ray_head.ganfleet("submit", "--to", "ray", *WORDS)
    assert (first.returncode, first.stdout) == (0, f"{NAME}-1\n"), first.stderr
    assert first.stderr.startswith(f"shipped: 1 files of {mine}, 1 kB\n")
    mine.rename(ray_head.place / "away")
    listed = ray_head.ganfleet("jobs").stdout.splitlines()[1].split()[:4]
    assert listed in ([NAME, "ray", f"{NAME}-1", state] for state in ("waiting", "running"))
    twice = ray_head.ganfleet("submit", "--to", "ray", *WORDS)
    assert (twice.returncode, "is in job afar-1 of ray already" in twice.stderr) == (2, True)
    until(folder.checkpoints, folder.log)
    assert ray_head.ganfleet("jobs", "stop", NAME).returncode == 0
    told = ray_head.ganfleet("jobs", "logs", NAME)
    assert (told.returncode, told.stderr) == (0, "")
    assert f"interrupted; to go on: ganfleet train --resume {NAME}" in told.stdout
    step = rows(folder.path)[-1]["step"]
    assert 0 < step < ROUNDS

    second = ray_head.ganfleet("submit", "--to", "ray", *WORDS)
    assert (second.returncode, second.stdout) == (0, f"{NAME}-2\n"), second.stderr
    told = ray_head.ganfleet("jobs", "logs", NAME)
    assert f"after {ROUNDS} generator updates" in told.stdout, told.stdout + told.stderr
    assert ray_head.ganfleet("jobs").stdout.splitlines()[1].split()[:4] == [NAME, "ray", f"{NAME}-2", "done"]
    assert [row["step"] for row in rows(folder.path)] == list(range(EVERY, ROUNDS + 1, EVERY))


def test_the_doctor_looks_at_every_node(ray_head):
    told = ray_head.ganfleet("doctor", joined=True)
    assert told.returncode == 0, told.stdout + told.stderr
    lines = {line.split()[1]: line for line in told.stdout.splitlines()}
    assert f"{ray_head.gcs}: 1 nodes, 2 CPUs, 0 GPUs" in lines["ray"]
    assert "equal on all 1 nodes" in lines["versions"]
    refused = ray_head.ganfleet("doctor", joined=True, token="0" * 64)
    assert refused.returncode == 1
    (wrong,) = [line for line in refused.stdout.splitlines() if line.startswith("WRONG")]
    assert "RAY_AUTH_MODE=token with the RAY_AUTH_TOKEN of that cluster" in wrong


def test_the_guides_path_for_newcomers_leads_to_a_trained_run(ray_head, tmp_path):
    environment = {name: value for name, value in clean(ray_head.token).items() if name != "RAY_AUTH_MODE"}
    said = walked("docs/howto/ray-cluster.md", tmp_path, {"http://HOST:8265": ray_head.url}, environment)
    _, job, listed, log, evaluated = said.values()
    assert job.splitlines()[0] == "first-1"
    assert listed.splitlines()[1].split()[:3] == ["first", "ray", "first-1"]
    assert "after 100 generator updates" in log
    assert evaluated.startswith("fid ")
