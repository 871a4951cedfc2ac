"""A follower sends a run's folder to MLflow: everything, once, in few calls, whatever dies or is unavailable."""

import io
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

import infra.mlflow.follower
from infra.mlflow.follower import Follower
from infra.mlflow.tracker import MlflowTracker, Row, opened_run
from infra.tracker import FolderTracker, Trackers, now


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def row(step: int) -> dict[str, float]:
    return {"images_seen": 64 * step, "fid": 100 - step}


@dataclass
class Place:
    """A run's folder, and MLflow's store, which a test can make unavailable."""

    uri: str
    experiment: str
    folder: Path
    away: bool = False
    opened: int = 0
    batches: list[int] = field(default_factory=list)
    """How many metrics each call took."""

    def connect(self) -> MlflowTracker:
        self.reach()
        self.opened += 1
        run = opened_run(self.uri, self.experiment, {"ganfleet.id": "run"}, "run", None, {}, {})
        return MlflowTracker(self.uri, run)

    def reach(self) -> None:
        if self.away:
            raise MlflowException("Connection refused")

    def tracked(self) -> tuple[Trackers, Follower]:
        follower = Follower(self.folder, self.connect)
        return Trackers([FolderTracker(self.folder), follower]), follower

    def values(self, name: str) -> list[tuple[int, float]]:
        run = opened_run(self.uri, self.experiment, {"ganfleet.id": "run"}, "run", None, {}, {}).info.run_id
        return [(metric.step, metric.value) for metric in MlflowClient(self.uri).get_metric_history(run, name)]

    def pictures(self) -> list[int]:
        run = opened_run(self.uri, self.experiment, {"ganfleet.id": "run"}, "run", None, {}, {}).info.run_id
        files = [file.path for file in MlflowClient(self.uri).list_artifacts(run, "images")]
        return sorted(int(path.split("+step+")[1].split("+")[0]) for path in files if path.endswith(".png"))


@pytest.fixture
def place(uri, experiment, tmp_path, monkeypatch) -> Place:
    found = Place(uri, experiment, tmp_path / "run")
    log = MlflowClient.log_batch

    def counted(client, run_id, metrics=(), **more):
        found.reach()
        if metrics:
            found.batches.append(len(metrics))
        return log(client, run_id, metrics=metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    monkeypatch.setattr(infra.mlflow.follower, "SEND_SECONDS", 0.1)
    monkeypatch.setattr(infra.mlflow.follower, "RETRY_SECONDS", 0.1)
    return found


def until(found, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def expected(*steps: int) -> list[tuple[int, float]]:
    return [(step, 100.0 - step) for step in steps]


def test_rows_go_together_and_none_is_lost(place):
    tracker, _ = place.tracked()
    for step in range(1, 51):
        tracker.metrics(step, row(step))
    tracker.close()
    assert place.values("fid") == expected(*range(1, 51))
    assert (sum(place.batches), place.opened) == (100, 1)
    assert len(place.batches) <= 3


def test_who_watches_sees_a_row_soon(place):
    tracker, follower = place.tracked()
    tracker.metrics(1, row(1))
    until(lambda: follower.last_step == 1)
    assert place.values("fid") == expected(1)
    tracker.close()


def test_nothing_is_opened_for_a_run_that_logs_nothing(place):
    tracker, _ = place.tracked()
    tracker.close()
    assert place.opened == 0


def test_a_picture_is_there_before_its_row(place, monkeypatch):
    order = []
    for name in ("picture", "rows"):
        real = getattr(MlflowTracker, name)
        monkeypatch.setattr(
            MlflowTracker, name, lambda *a, real=real, name=name, **k: (order.append(name), real(*a, **k))
        )
    tracker, _ = place.tracked()
    tracker.picture(4, png(9))
    tracker.metrics(4, row(4))
    tracker.flush()
    assert order == ["picture", "rows"]
    assert place.pictures() == [4]


def test_more_metrics_than_a_call_takes(place):
    tracker, _ = place.tracked()
    for step in range(1, 31):
        tracker.metrics(step, {**row(step), **{f"more/{number}": 1.0 for number in range(98)}})
    tracker.flush()
    assert [step for step, _ in place.values("more/7")] == list(range(1, 31))
    assert max(place.batches) == 1000, "MLflow's limit"
    assert all(size % 100 == 0 for size in place.batches), "a row is never cut"


def test_a_store_that_is_away_for_a_moment_stops_nobody(place, caplog):
    tracker, follower = place.tracked()
    tracker.metrics(1, row(1))
    tracker.flush()
    place.away = True
    began = time.monotonic()
    for step in (2, 3, 4):
        tracker.picture(step, png(step))
        tracker.metrics(step, row(step))
        tracker.flush()
    assert time.monotonic() - began < 2
    assert "MLflow is away" in caplog.text
    place.away = False
    tracker.metrics(5, row(5))
    until(lambda: follower.last_step == 5)
    tracker.close()
    assert place.values("fid") == expected(1, 2, 3, 4, 5)
    assert place.pictures() == [2, 3, 4]


def test_what_was_never_brought_is_brought_by_whoever_goes_on(place):
    """A process died before it sent its rows, or the server was unavailable until the run ended."""
    tracker, _ = place.tracked()
    for step in (1, 2):
        tracker.metrics(step, row(step))
    tracker.flush()
    place.away = True
    tracker.picture(3, png(3))
    tracker.metrics(3, row(3))
    tracker.tags({"ganfleet.sign": "seen"})
    tracker.close()
    place.away = False
    again, _ = place.tracked()
    for step in (2, 3, 4):  # replayed from a checkpoint
        again.metrics(step, row(step))
    again.close()
    assert place.values("fid") == expected(1, 2, 3, 4)
    assert place.pictures() == [3]
    run = place.connect()
    assert MlflowClient(place.uri).get_run(run.run_id).data.tags["ganfleet.sign"] == "seen"


def test_the_driver_brings_the_rest_though_the_worker_lives(place):
    """The second of the two finds that the other has sent rows, and sends nothing twice."""
    worker, follower = place.tracked()
    worker.metrics(1, row(1))
    worker.flush()
    FolderTracker(place.folder).metrics(2, row(2))
    driver = Follower(place.folder, place.connect)
    assert driver.catch_up().last_step == 2
    FolderTracker(place.folder).metrics(3, row(3))
    worker.metrics(3, row(3))
    worker.flush()
    assert follower.last_step == 3
    assert place.values("fid") == expected(1, 2, 3)


def test_an_answer_that_is_lost_doubles_nothing(place, monkeypatch):
    """The server has recorded the rows, but the connection breaks before it says so."""
    log, broken = MlflowClient.log_batch, []

    def lost(client, run_id, metrics=(), **more):
        log(client, run_id, metrics=metrics, **more)
        if metrics and not broken:
            broken.append(True)
            raise MlflowException("Connection reset by peer")

    monkeypatch.setattr(MlflowClient, "log_batch", lost)
    tracker, follower = place.tracked()
    for step in (1, 2):
        tracker.metrics(step, row(step))
    tracker.flush()
    until(lambda: time.monotonic() > follower._not_before)
    tracker.metrics(3, row(3))
    tracker.flush()
    assert broken
    assert place.values("fid") == expected(1, 2, 3)


def test_a_batch_that_arrives_after_its_sender_was_killed_doubles_nothing(place, monkeypatch):
    """The next process asks what MLflow has, and only then does the server record what the killed one had sent."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    log, upload, on_their_way = MlflowClient.log_batch, MlflowClient.log_artifacts, []

    def killed(client, run_id, metrics=(), **more):
        if metrics:
            on_their_way.append(lambda: log(client, run_id, metrics=metrics, **more))
            raise MlflowException("Connection reset by peer")
        log(client, run_id, metrics=metrics, **more)

    def kept(client, run_id, folder, path):
        files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}

        def arrive() -> None:
            for name, content in files.items():
                Path(folder).mkdir(exist_ok=True)
                Path(folder, name).write_bytes(content)
            upload(client, run_id, folder, path)

        on_their_way.append(arrive)

    monkeypatch.setattr(MlflowClient, "log_batch", killed)
    monkeypatch.setattr(MlflowClient, "log_artifacts", kept)
    monkeypatch.setattr(infra.mlflow.follower, "SEND_SECONDS", 3600.0)
    tracker, follower = place.tracked()
    follower._samples = [Row(0, now() + number, {"system/cpu": number}) for number in range(3)]
    for step in (1, 2, 3):
        tracker.picture(step, png(step))
        tracker.metrics(step, row(step))
        time.sleep(0.002)
    tracker.flush()
    monkeypatch.setattr(MlflowClient, "log_batch", log)
    monkeypatch.setattr(MlflowClient, "log_artifacts", upload)

    def connect() -> MlflowTracker:
        run = place.connect()
        run._pictures = run._known_pictures()
        for arrive in on_their_way:
            arrive()
        return run

    samples = list(follower._samples)
    again, follower = place.tracked()
    follower._connect, follower._samples = connect, samples
    again.metrics(4, row(4))
    again.flush()
    assert len(on_their_way) == 7  # a batch, and each picture in two folders
    assert place.values("fid") == expected(1, 2, 3, 4)
    assert place.pictures() == [1, 2, 3]
    assert [value for _, value in place.values("system/cpu")] == [0, 1, 2]


def test_rows_keep_the_time_at_which_they_were_logged(place):
    tracker, _ = place.tracked()
    place.away = True
    began = now()
    for step in (1, 2):
        tracker.metrics(step, row(step))
        time.sleep(0.01)
    ended = now()
    tracker.close()
    place.away = False
    Follower(place.folder, place.connect).catch_up()
    run = place.connect().run_id
    first, second = (point.timestamp for point in MlflowClient(place.uri).get_metric_history(run, "fid"))
    assert began <= first < second <= ended


def test_a_refusal_is_told_once_and_not_asked_again(place, caplog):
    """The run is deleted while it trains. Whoever opens it next makes another one, with all rows."""
    tracker, follower = place.tracked()
    tracker.metrics(1, row(1))
    tracker.flush()
    MlflowClient(place.uri).delete_run(follower._run.run_id)
    for step in (2, 3):
        tracker.metrics(step, row(step))
        tracker.flush()
    batches = len(place.batches)
    until(lambda: "refuses" in caplog.text)
    time.sleep(0.3)
    tracker.close()
    assert len(place.batches) == batches
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        f"MLflow refuses to record this; rows stay in {place.folder}/metrics.jsonl"
    ]
    Follower(place.folder, place.connect).catch_up()
    assert place.values("fid") == expected(1, 2, 3)


def test_two_at_once_lose_and_double_nothing(place):
    tracker, _ = place.tracked()
    others = [threading.Thread(target=lambda: Follower(place.folder, place.connect).catch_up()) for _ in range(3)]
    for step in range(1, 41):
        tracker.metrics(step, row(step))
        if step % 10 == 5 and step > 10:
            others[step // 10 - 1].start()
    tracker.close()
    for other in others:
        other.join()
    assert place.values("fid") == expected(*range(1, 41))


def test_what_the_machine_does_is_sampled_apart_from_the_rows(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    for last, wanted in ((2, 1), (4, 3)):  # the second tracker resumes the run
        tracker, follower = place.tracked()
        for step in range(1, last + 1):
            tracker.metrics(step, row(step))
        until(lambda follower=follower: follower._run is not None)
        until(lambda wanted=wanted: len(place.values("system/cpu_utilization_percentage")) >= wanted)
        tracker.close()
    for name in ("cpu_utilization_percentage", "system_memory_usage_megabytes", "network_receive_megabytes"):
        steps = [step for step, _ in place.values(f"system/{name}")]
        assert len(steps) >= 3
        assert steps == sorted(set(steps))
    assert place.values("fid") == expected(1, 2, 3, 4)
