"""`ganfleet sync`, and a command line that is typed again: what MLflow lacks of runs is delivered, and nothing else."""

from __future__ import annotations

import shlex
import socket

import pytest

from pipelines.runs._folder import RunFolder
from pipelines.tracking.retry import UntrackedNote
from tests.pipelines.small_runs import SMALL, agree, client_of, ganfleet_here, named, owing, pictures

EVERY = ("budget.log_every=2", "budget.eval_every=4", "budget.checkpoint_every=3")
GAME = ("family.n_critic=2", "budget.rounds=12", *EVERY)
"""The settings of the run that the tests copy."""


@pytest.fixture
def ganfleet(monkeypatch, capfd):
    def run(line: str):
        return ganfleet_here(monkeypatch, capfd, *shlex.split(line))

    return run


@pytest.fixture
def home(played, tmp_path) -> str:
    """A storage path of its own, as words of a command."""
    return f"storage.path={tmp_path}/runs"


def left(played, home: str, name: str, *changes: str) -> RunFolder:
    return owing(played, name, home, *changes)[1]


def test_a_run_is_delivered_by_its_name(ganfleet, played, home, tmp_path):
    first, second = left(played, home, "first"), left(played, home, "second")
    done = ganfleet(f"sync second {home}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("has all of second now: what it lacked is brought\n")
    client = client_of(tmp_path / "runs")
    run = named(client, "second")
    assert run.info.status == "FINISHED"
    assert run.data.tags["ganfleet.fid.extractor"] == "classifier"
    assert agree(client, run, second.path)
    assert pictures(client, run) == [0, 4, 8, 12]
    assert (bool(UntrackedNote(first)), bool(UntrackedNote(second))) == (True, False)
    again = ganfleet(f"sync second {home}")
    assert (again.returncode, again.stdout) == (0, "MLflow lacks nothing of second\n")


def test_without_a_name_all_runs_are_delivered_but_those_that_a_driver_plays(ganfleet, played, home, tmp_path):
    """An unfinished one is ended in MLflow as interrupted."""
    for name in ("finished", "alive"):
        left(played, home, name)
    half = left(played, home, "half", "budget.rounds=40")
    with RunFolder(tmp_path / "runs" / "alive").sole_driver():
        done = ganfleet(f"sync {home}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "alive: skipped, a driver plays it" in done.stdout.splitlines()
    client = client_of(tmp_path / "runs")
    assert named(client, "finished").info.status == "FINISHED"
    run = named(client, "half")
    assert (run.info.status, run.data.tags["ganfleet.state"]) == ("KILLED", "interrupted")
    assert agree(client, run, half.path)
    assert [path.parent.name for path in sorted((tmp_path / "runs").glob("*/untracked"))] == ["alive"]
    assert ganfleet(f"sync {home}").returncode == 0
    assert ganfleet(f"sync {home}").stdout == f"MLflow lacks nothing of {tmp_path}/runs\n"


def test_a_server_that_does_not_answer_is_75_and_the_others_are_delivered(ganfleet, played, home, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{free.getsockname()[1]}"
    left(played, home, "a", f"tracking.uri={away}")
    left(played, home, "b")
    done = ganfleet(f"sync {home}")
    assert done.returncode == 75
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: a: tracking.uri={away}: no MLflow server answers")
    assert named(client_of(tmp_path / "runs"), "b").info.status == "FINISHED"
    assert [path.parent.name for path in (tmp_path / "runs").glob("*/untracked")] == ["a"]


def test_a_refusal_is_1_and_told_with_its_reason(ganfleet, played, home, tmp_path):
    left(played, home, "first")
    ganfleet(f"sync {home}")
    client = client_of(tmp_path / "runs")
    client.delete_experiment(client.get_experiment_by_name("ganfleet").experiment_id)
    left(played, home, "second")
    done = ganfleet(f"sync second {home}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: second: tracking.uri=sqlite:///")
    assert "was deleted" in line


def test_what_sync_does_not_take_is_one_line(ganfleet, played, home):
    left(played, home, "first")
    for line, said in (
        (f"sync first second {home}", "error: sync takes one name, not 2; nearest: ganfleet sync first"),
        (f"sync fist {home}", "nearest: first"),
        (f"sync first {home} family.lr=1", "family.lr"),
    ):
        done = ganfleet(line)
        assert done.returncode == 2
        (error,) = done.stderr.splitlines()
        assert said in error


def line_of(home: str, *changes: str) -> str:
    return shlex.join(["train", "wgan_gp", "name=typed", *SMALL, *GAME, home, *changes])


def test_the_line_of_a_finished_run_that_owes_delivers_it(ganfleet, played, home, tmp_path):
    folder = left(played, home, "typed")
    done = ganfleet(line_of(home))
    assert (done.returncode, done.stderr) == (0, "")
    assert "has all of typed now" in done.stdout
    client = client_of(tmp_path / "runs")
    assert named(client, "typed").info.status == "FINISHED"
    assert agree(client, named(client, "typed"), folder.path)
    again = ganfleet(line_of(home))
    assert again.returncode == 2
    assert "name=typed exists" in again.stderr


@pytest.mark.parametrize("change", ["budget.rounds=14", "family.lr=0.5", "seed=1"])
def test_another_line_with_its_name_is_refused(ganfleet, played, home, change):
    folder = left(played, home, "typed")
    done = ganfleet(line_of(home, change))
    assert done.returncode == 2
    assert "name=typed exists" in done.stderr
    assert UntrackedNote(folder)


def test_the_line_of_an_unfinished_run_is_refused_as_before(ganfleet, played, home):
    left(played, home, "typed", "budget.rounds=40")
    done = ganfleet(line_of(home, "budget.rounds=40"))
    assert done.returncode == 2
    assert "--resume typed" in done.stderr
