"""The record of a training run in MLflow: whenever its driver is killed, all of it is delivered, once."""

import io
import math
import os
import signal
import subprocess
import time

import pytest
from rich.console import Console

from gan_core.settings import SettingsError
from pipelines.interrupts import InterruptedRunError
from pipelines.jobs.in_process import play_in_process
from pipelines.runs._folder import RunFolder
from pipelines.tracking.retry import UntrackedNote
from pipelines.train.command import train
from tests.pipelines.small_runs import (
    SMALL,
    Death,
    Killed,
    agree,
    client_of,
    command,
    created,
    environment,
    ganfleet,
    listing,
    named,
    owing,
    pictures,
    resumed,
    small_train,
    tracked,
)

ROUNDS = ("family.n_critic=1", "budget.rounds=4", "budget.log_every=1", "budget.eval_every=2")


def check_delivered(storage, folder: RunFolder, steps: list[int]) -> None:
    """MLflow has one run with every row, picture and artifact once, and nothing is owed."""
    client = client_of(storage)
    (run,) = tracked(client, id=folder.id)
    assert (run.info.status, run.data.tags["ganfleet.state"]) == ("FINISHED", "completed")
    assert agree(client, run, folder.path)
    assert pictures(client, run) == steps
    assert listing(client, run) == ["checkpoint", "experiment.yaml", "images", "samples"]
    assert not UntrackedNote(folder)


def test_a_run_owes_from_before_it_is_played_until_all_is_delivered(storage, reference):
    experiment = small_train(storage, "wgan_gp", "in-debt", *ROUNDS)
    folder, owed = created(experiment), []

    def played(*about):
        owed.append(bool(UntrackedNote(folder)))
        yield from play_in_process(*about)
        owed.append(bool(UntrackedNote(folder)))

    train(experiment, folder, Console(quiet=True), played)
    assert owed == [True, True]
    check_delivered(storage, folder, [0, 2, 4])


def test_a_finished_run_delivers_what_is_left_after_a_kill_at_any_call(played, storage, monkeypatch):
    """Its driver dies at each call to MLflow in turn; then `--resume` delivers the rest without playing."""
    number, calls = 0, []
    while number == 0 or len(calls) > number:
        _, folder = owing(played, f"killed-{number}")
        with monkeypatch.context() as patch:
            death = Death(patch, number)
            with pytest.raises(Killed):
                train(*resumed("train", folder.path.name, storage), Console(quiet=True))
        assert UntrackedNote(folder)
        with monkeypatch.context() as patch:
            rest, screen = Death(patch), io.StringIO()
            train(*resumed("train", folder.path.name, storage), Console(file=screen, width=200))
        assert f"has all of killed-{number} now" in screen.getvalue()
        check_delivered(storage, folder, [0, 4, 8, 12])
        calls = calls or rest.calls
        number += 1
        assert len(death.calls) == number
    assert {"create_run", "log_batch", "log_artifacts", "log_artifact", "set_terminated"} <= set(calls)
    with pytest.raises(SettingsError, match="is finished, at step 12"):
        train(*resumed("train", folder.path.name, storage), Console(quiet=True))


def test_a_run_that_is_killed_while_it_plays_goes_on_and_owes_nothing_in_the_end(storage, reference, monkeypatch):
    monkeypatch.setattr("infra.mlflow.follower.SEND_SECONDS", 3600.0)
    experiment = small_train(storage, "wgan_gp", "half", *ROUNDS)
    folder = created(experiment)
    with monkeypatch.context() as patch:
        Death(patch, 4)
        with pytest.raises(Killed):
            train(experiment, folder, Console(quiet=True), play_in_process)
    assert UntrackedNote(folder)
    train(*resumed("train", "half", storage), Console(quiet=True), play_in_process)
    check_delivered(storage, folder, [0, 2, 4])


def test_ctrl_c_after_the_last_round_leaves_a_run_that_owes_its_end(storage, reference):
    """It is closed as interrupted, though all is played."""
    experiment = small_train(storage, "wgan_gp", "ctrl-c-at-the-end", *ROUNDS)
    folder = created(experiment)

    def played(*about):
        yield from play_in_process(*about)
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError):
        train(experiment, folder, Console(quiet=True), played)
    assert named(client_of(storage), "ctrl-c-at-the-end").info.status == "KILLED"
    train(*resumed("train", "ctrl-c-at-the-end", storage), Console(quiet=True))
    check_delivered(storage, folder, [0, 2, 4])


def test_a_run_that_is_refused_before_it_plays_owes_nothing(storage, reference):
    experiment = small_train(storage, "wgan_gp", "refused", *ROUNDS)
    folder = created(experiment)

    def refused(*_):
        raise SettingsError("compute.workers=9 is more than there are")
        yield

    with pytest.raises(SettingsError):
        train(experiment, folder, Console(quiet=True), refused)
    assert not UntrackedNote(folder)


def test_what_mlflow_refuses_is_told_once_and_the_run_ends_well(storage, reference, monkeypatch, tmp_path):
    """The experiment is deleted while the run trains."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    experiment = small_train(storage, "wgan_gp", "unwanted", *ROUNDS, f"tracking.uri={uri}")
    folder, screen = created(experiment), io.StringIO()
    client = client_of(tmp_path)

    def played(*about):
        for event in play_in_process(*about):
            if event.step == 2:
                client.delete_experiment(client.get_experiment_by_name("ganfleet").experiment_id)
            yield event

    monkeypatch.setattr("pipelines.tracking.retry.FINAL_SECONDS", math.inf)  # it would wait for ever
    train(experiment, folder, Console(file=screen, width=300), played)
    (line,) = [line for line in screen.getvalue().splitlines() if line.startswith("tracking")]
    assert line.startswith(f"tracking     {uri} refuses to record the rest: ")
    assert "'active' state" in line
    assert line.endswith(f"once that is mended: ganfleet sync unwanted storage.path={storage}")
    assert "--resume" not in line
    assert UntrackedNote(folder).reason


@pytest.mark.full
def test_a_process_that_is_killed_at_the_end_is_caught_up_by_the_same_line(storage, reference, tmp_path):
    words = [*SMALL, "name=typed", f"storage.path={storage}", *ROUNDS]
    line = ["submit", "--to", "here", "train", "wgan_gp", *words]
    folder = RunFolder(storage / "typed")
    process = subprocess.Popen(
        command(*line), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (folder.checkpoint(4) / "checkpoint.json").is_file():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = ganfleet(tmp_path, *line)
    assert (again.returncode, again.stderr) == (0, "")
    check_delivered(storage, folder, [0, 2, 4])
