"""Ctrl-C in the middle of a search, then the command that it prints to resume, as a user types them."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run

from pipelines.runs._folder import RunFolder
from pipelines.settings._experiments import TrainExperiment
from pipelines.train.play import play
from tests.pipelines.small_runs import (
    SMALL,
    agree,
    client_of,
    command,
    environment,
    listing,
    named,
    rows,
    table,
    timeless,
    tracked,
)

pytestmark = pytest.mark.usefixtures("own_cluster")

NAME, TRIALS, ROUNDS, EVERY = "cut-short", 4, 60, 10


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what MLflow held then."""

    code: int
    out: str
    err: str
    table: list[dict[str, str]]
    parent: Run
    children: dict[str, Run]


def evaluations(folder: RunFolder) -> list[int]:
    """The evaluated steps of all trials so far."""
    files = folder.path.glob("trials/*/metrics.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [row["step"] for row in map(json.loads, lines) if "fid" in row]


def run(words: list[object], storage: Path, cwd: Path, interrupted: bool) -> Ended:
    """Runs a command, with Ctrl-C after the second evaluation if asked for."""
    said = cwd / "out", cwd / "err"
    with said[0].open("w") as out, said[1].open("w") as err:
        process = subprocess.Popen(
            command(*words), cwd=cwd, env=environment(), stdout=out, stderr=err, start_new_session=True
        )
        if interrupted:
            while process.poll() is None and len(evaluations(RunFolder(storage / NAME))) < 2:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches Ray's processes too
        code = process.wait()
    client = client_of(storage)
    children = tracked(client, kind="trial", search=NAME)
    by_trial = {run.data.tags["ganfleet.trial"]: run for run in children}
    assert len(by_trial) == len(children), "a trial with two runs"
    return Ended(code, said[0].read_text(), said[1].read_text(), table(storage / NAME), named(client, NAME), by_trial)


@pytest.fixture(scope="module")
def cut(storage, reference, tmp_path_factory) -> Ended:
    words = [
        "search",
        "wgan_gp",
        *SMALL,
        f"name={NAME}",
        f"storage.path={storage}",
        f"search.trials={TRIALS}",
        "search.scheduler=none",
        "search.confirm=0",
        f"budget.rounds={ROUNDS}",
        f"budget.eval_every={EVERY}",
        f"budget.log_every={EVERY}",
    ]
    return run(words, storage, tmp_path_factory.mktemp("cut"), interrupted=True)


@pytest.fixture(scope="module")
def whole(cut, storage, tmp_path_factory) -> Ended:
    """The search, resumed by the command that the interrupted one printed."""
    told = cut.err.splitlines()[-1].partition("to go on: ")[2]
    program, *words = shlex.split(told)
    assert program == "ganfleet"
    return run(words, storage, tmp_path_factory.mktemp("whole"), interrupted=False)


def test_an_interrupted_search_says_how_to_go_on(cut, storage):
    assert cut.code == 75, cut.err
    assert cut.err.splitlines() == [f"interrupted; to go on: ganfleet search --resume {NAME} storage.path={storage}"]
    assert "Traceback" not in cut.out


def test_trials_that_were_running_are_interrupted_everywhere(cut):
    assert cut.parent.info.status == "KILLED"
    assert cut.parent.data.tags["ganfleet.state"] == "interrupted"
    states = {row["trial"]: row["state"] for row in cut.table}
    assert "interrupted" in states.values()
    assert set(states.values()) <= {"interrupted", "completed"}
    for trial, child in cut.children.items():
        assert child.data.tags["ganfleet.state"] == states[trial]
        assert child.info.status == {"interrupted": "KILLED", "completed": "FINISHED"}[states[trial]]


def test_the_resumed_search_ends_well(whole):
    assert (whole.code, whole.err) == (0, "")
    assert whole.parent.info.status == "FINISHED"
    assert whole.parent.data.tags["ganfleet.state"] == "completed"
    assert Counter(row["state"] for row in whole.table) == {"completed": TRIALS}
    assert [float(row["fid"]) for row in whole.table] == sorted(float(row["fid"]) for row in whole.table)


def test_it_is_the_same_search_with_the_same_trials(cut, whole):
    assert whole.parent.info.run_id == cut.parent.info.run_id
    assert len(whole.children) == TRIALS
    for trial, child in cut.children.items():
        assert whole.children[trial].info.run_id == child.info.run_id
    for row in cut.table:
        (later,) = [one for one in whole.table if one["trial"] == row["trial"]]
        assert (later["lr"], later["n_critic"]) == (row["lr"], row["n_critic"])


def test_each_trial_has_every_evaluation_once(whole, storage):
    client = client_of(storage)
    for trial, child in whole.children.items():
        folder = RunFolder(storage / NAME / "trials" / trial)
        steps = list(range(EVERY, ROUNDS + 1, EVERY))
        assert [row["step"] for row in rows(folder.path) if "fid" in row] == steps
        assert [int(path.stem.removeprefix("step-")) for path in folder.pictures()] == [0, *steps]
        assert agree(client, child, folder.path)
        assert child.info.status == "FINISHED"
        images = [path for path in listing(client, child, "images") if path.endswith(".png")]
        assert len(images) == 1 + len(steps), "one is of the untrained generator"
        assert folder.checkpoints() == [folder.checkpoint(ROUNDS)]


def test_what_was_logged_before_is_not_changed_by_going_on(cut, whole, storage, reference):
    """A trial's rows are those of a game without interruption."""
    trial = next(row["trial"] for row in cut.table if row["state"] == "interrupted")
    folder = RunFolder(storage / NAME / "trials" / trial)
    experiment = TrainExperiment.from_yaml(folder.experiment.read_text())
    again = RunFolder(storage / "at-one-go")
    again.path.mkdir()
    list(play(experiment, again, reference, target=None))
    assert [timeless(row) for row in rows(folder.path)] == [timeless(row) for row in rows(again.path)]


def test_its_log_tells_both_sittings_and_what_ray_said_is_no_false_alarm(whole, storage):
    log = (storage / NAME / "run.log").read_text()
    said = [line[20:] for line in log.splitlines()]
    ends = [line for line in said if line.startswith(("interrupted; to go on", "done"))]
    assert ends == [f"interrupted; to go on: ganfleet search --resume {NAME} storage.path={storage}", "done"]
    assert "pid=" not in log
    assert "Traceback" not in log
    noise = (storage / NAME / "ray.log").read_text()
    assert "(Trial pid=" in noise
    for alarm in ("Failed to fetch metrics", "Traceback"):
        assert alarm not in noise
