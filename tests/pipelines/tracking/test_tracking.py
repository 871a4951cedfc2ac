"""A run and its tracking server: a wrong password, and a server that is unavailable for a while or for good."""

from __future__ import annotations

import io

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from rich.console import Console

import pipelines.tracking.retry
from gan_core.settings import SettingsError
from pipelines.jobs.in_process import play_in_process
from pipelines.launch._resume import resumed_train
from pipelines.tracking.retry import Failure, TrackingRetry, UntrackedNote
from pipelines.train.command import train
from tests.pipelines.small_runs import agree, created, ganfleet, listing, named, small_train
from tests.servers import Cable
from tests.tracking_servers import Guard

ROUNDS = ("family.n_critic=1", "budget.rounds=20", "budget.log_every=1", "budget.eval_every=5")


@pytest.fixture
def hasty(monkeypatch):
    """Short waits between attempts."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(pipelines.tracking.retry, "FINAL_SECONDS", 1.0)
    monkeypatch.setattr("infra.mlflow.follower.SEND_SECONDS", 0.1)
    monkeypatch.setattr("infra.mlflow.follower.RETRY_SECONDS", 0.1)


@pytest.fixture
def cable(tracking):
    """The connection between a run and the server. Once cut it stays cut until it is mended."""
    carried = Cable(tracking.url, mended=False)
    yield carried
    carried.close()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def calls(log) -> int:
    return sum('HTTP/1.1"' in line for line in log.read_text().splitlines())


def test_a_run_asks_the_server_seldom(tracking, storage, reference, console, monkeypatch):
    """20 rows that come faster than the clock ticks need only a call for each evaluation. Sent row by row they would
    need 48 calls or more."""
    monkeypatch.setattr("infra.mlflow.follower.SEND_SECONDS", 3600.0)
    experiment = small_train(storage, "wgan_gp", "seldom", *ROUNDS, f"tracking.uri={tracking.url}")
    before = calls(tracking.log)
    train(experiment, created(experiment), console, play_in_process)
    pictures, files, rows = 4 * 5, 3, 4  # with the one of step 0; each in two folders
    assert calls(tracking.log) - before <= pictures + files + rows + 15
    run = named(MlflowClient(tracking.url), "seldom")
    assert run.info.status == "FINISHED"
    assert agree(MlflowClient(tracking.url), run, experiment.folder)
    assert listing(MlflowClient(tracking.url), run) == ["checkpoint", "experiment.yaml", "images", "samples"]


@pytest.mark.parametrize("back", [True, False])
def test_a_server_that_goes_away_stops_no_run(tracking, cable, storage, reference, console, hasty, back):
    """The connection is cut in the middle. It is back before the end, or only when the run is resumed."""
    name = "back" if back else "gone"
    experiment = small_train(storage, "wgan_gp", name, *ROUNDS, f"tracking.uri={cable.url}")
    folder = created(experiment)

    def played(*about):
        for event in play_in_process(*about):
            if event.step == 6:
                cable.cut_next()
            if event.step == 18 and back:
                cable.mend()
            yield event

    train(experiment, folder, console, played)
    assert len(folder.rows()) == 20
    client, said = MlflowClient(tracking.url), console.file.getvalue()
    if not back:
        assert named(client, name).info.status == "RUNNING"
        assert f"is away and lacks the last of it; to bring it: ganfleet sync {name} storage.path={storage}" in said
        assert UntrackedNote(folder)
        cable.mend()
        train(*resumed_train(name, [f"storage.path={storage}"]), console, play_in_process)
        brought = console.file.getvalue().removeprefix(said).splitlines()
        assert brought[-1] == f"tracking     {cable.url} has all of {name} now: what it lacked is brought"
    else:
        assert "lack" not in said
    run = named(client, name)
    assert run.info.status == "FINISHED"
    assert agree(client, run, folder.path)
    pictures = [path for path in listing(client, run, "images") if path.endswith(".png")]
    assert sorted(int(path.split("+step+")[1].split("+")[0]) for path in pictures) == [0, 5, 10, 15, 20]
    assert not UntrackedNote(folder)
    with pytest.raises(SettingsError, match="is finished"):
        train(*resumed_train(name, [f"storage.path={storage}"]), console, play_in_process)


def test_a_wrong_password_is_one_line_before_anything_starts(tracking, storage, monkeypatch, tmp_path):
    guard = Guard(tracking.url, "mary", "right")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mary")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    try:
        done = ganfleet(tmp_path, "search", "wgan_gp", "name=locked", f"tracking.uri={guard.url}")
    finally:
        guard.close()
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: tracking.uri={guard.url}: the server refuses MLFLOW_TRACKING_USERNAME=mary")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "no", "false, or true"),
        ("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "often", "10"),
    ],
)
def test_a_variable_that_mlflow_does_not_take_is_one_line_before_anything_starts(
    monkeypatch, tmp_path, variable, value, right
):
    monkeypatch.setenv(variable, value)
    done = ganfleet(tmp_path, "train", "wgan_gp", "name=x")
    assert done.stderr == f"error: {variable}={value} is nothing that MLflow takes; nearest: {variable}={right}\n"
    assert done.returncode == 2
    assert list((tmp_path / "runs").iterdir()) == []


def test_patience_ends(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("pipelines.tracking.retry.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("pipelines.tracking.retry.time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    asked = []

    def ask() -> None:
        asked.append(clock[0])
        raise ConnectionError("gone")

    retry = TrackingRetry()
    assert not retry.attempt(ask)
    assert not retry.attempt(ask)
    assert asked == [100.0], "half a minute is left in peace"
    clock[0] = 131.0
    assert not retry.attempt(ask)
    retry.start_final_minute()
    assert not retry.attempt(ask)
    assert (clock[0], retry.failure) == (191.0, Failure("gone", refused=False))
    clock[0] = 1e6
    count = len(asked)
    assert not retry.attempt(ask), "the minute is over"
    assert len(asked) == count


def test_a_refusal_is_not_waited_for(monkeypatch, caplog):
    """At the end there is a minute for a store that is away, but none for one that refuses."""
    monkeypatch.setattr("pipelines.tracking.retry.time.sleep", lambda _: pytest.fail("it waits"))
    asked = []

    def ask() -> None:
        asked.append(True)
        raise MlflowException("the run was deleted", error_code=RESOURCE_DOES_NOT_EXIST)

    retry = TrackingRetry()
    retry.start_final_minute()
    assert not retry.attempt(ask)
    assert not retry.attempt(ask)
    assert len(asked) == 2, "each trial's run is asked for"
    assert retry.failure == Failure("the run was deleted", refused=True)
    assert len(caplog.records) == 1


def test_what_succeeds_in_the_final_minute_has_not_failed(monkeypatch):
    monkeypatch.setattr("pipelines.tracking.retry.time.sleep", lambda _: None)
    answers = iter([ConnectionError("gone"), ConnectionError("gone"), None])

    def ask() -> None:
        error = next(answers)
        if error is not None:
            raise error

    retry = TrackingRetry()
    retry.start_final_minute()
    assert retry.attempt(ask)
    assert retry.failure is None
