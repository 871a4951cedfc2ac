"""One contract for every tracker. What only MLflow's promises is tested in mlflow/test_tracker.py."""

import io
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from infra.mlflow.tracker import MlflowTracker, opened_run, prepare
from infra.tracker import FolderTracker, Tracker, Trackers, now
from pipelines.runs._paths import RunPaths


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


def shade_of(file: Path) -> int:
    return Image.open(file).convert("RGB").getpixel((0, 0))[0]


@dataclass
class Folder:
    """A run that a test opens again, and reads without the tracker's own code."""

    root: Path

    def open(self) -> Tracker:
        return FolderTracker(self.root / "run")

    def values(self, name: str) -> list[tuple[int, float]]:
        lines = (self.root / "run" / "metrics.jsonl").read_text().splitlines()
        return [(row["step"], row[name]) for row in map(json.loads, lines) if name in row]

    def pictures(self) -> dict[int, list[int]]:
        files = (self.root / "run" / "samples").iterdir()
        return {int(re.fullmatch(r"step-(\d{6})\.png", file.name)[1]): [shade_of(file)] for file in files}

    def tags(self) -> dict[str, str]:
        return json.loads((self.root / "run" / "tags.json").read_text())


@dataclass
class Mlflow:
    root: Path
    uri: str

    def __post_init__(self):
        experiment = prepare(self.uri, str(self.root), self.root / "files")
        self.run_id = opened_run(self.uri, experiment, {"ganfleet.name": "run"}, "run", None, {}, {}).info.run_id
        self.client = MlflowClient(self.uri)

    def open(self) -> Tracker:
        return MlflowTracker(self.uri, self.run_id)

    def values(self, name: str) -> list[tuple[int, float]]:
        return [(metric.step, metric.value) for metric in self.client.get_metric_history(self.run_id, name)]

    def pictures(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for info in self.client.list_artifacts(self.run_id, "images"):
            if info.path.endswith(".png"):
                file = self.root / "files" / self.run_id / "artifacts" / info.path
                step = int(re.search(r"\+step\+(\d+)\+", info.path)[1])
                found.setdefault(step, []).append(shade_of(file))
        return found

    def tags(self) -> dict[str, str]:
        return self.client.get_run(self.run_id).data.tags


@pytest.fixture(params=["folder", "mlflow"])
def run(request, tmp_path, store):
    return Folder(tmp_path) if request.param == "folder" else Mlflow(tmp_path, store)


def row(step: int, fid: float = 1.0) -> dict[str, float]:
    return {"images_seen": 64 * step, "fid": fid}


def test_a_new_run_has_no_step_and_accepts_step_zero(run):
    tracker = run.open()
    assert tracker.last_step == -1
    tracker.metrics(0, row(0))
    assert tracker.last_step == run.open().last_step == 0


def test_rows_come_back_in_order_with_their_values(run):
    tracker = run.open()
    for step, fid in [(10, 40.5), (20, 30.25), (30, 35.125)]:
        tracker.metrics(step, row(step, fid))
    assert run.values("fid") == [(10, 40.5), (20, 30.25), (30, 35.125)]
    assert run.values("images_seen") == [(10, 640), (20, 1280), (30, 1920)]


def test_rows_may_differ_in_their_names(run):
    tracker = run.open()
    tracker.metrics(1, {"images_seen": 64, "loss/critic": -0.5})
    tracker.metrics(2, {"images_seen": 128, "fid": 9.0})
    assert run.values("loss/critic") == [(1, -0.5)]
    assert run.values("fid") == [(2, 9.0)]


def test_a_resumed_run_has_one_value_a_step_although_steps_are_replayed(run):
    first = run.open()
    for step in range(1, 8):
        first.metrics(step, row(step, fid=step))
    resumed = run.open()
    assert resumed.last_step == 7
    for step in range(5, 12):
        resumed.metrics(step, row(step, fid=100 + step))
    expected = [(step, step) for step in range(1, 8)] + [(step, 100 + step) for step in range(8, 12)]
    assert run.values("fid") == expected
    assert [step for step, _ in run.values("images_seen")] == list(range(1, 12))


def test_a_picture_sent_again_is_one_picture(run):
    tracker = run.open()
    tracker.picture(100, png(50))
    tracker.picture(100, png(50))
    run.open().picture(100, png(50))  # a crash between picture and metrics
    run.open().picture(200, png(90))
    assert run.pictures() == {100: [50], 200: [90]}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_recorded_with_its_row(run, bad):
    tracker = run.open()
    tracker.metrics(3, {**row(3, fid=bad), "loss/critic": 0.5})
    tracker.metrics(4, row(4, fid=2.0))
    assert run.open().last_step == 4
    assert run.values("loss/critic") == [(3, 0.5)]
    (step, value), later = run.values("fid")
    assert (step, later) == (3, (4, 2.0))
    shown = {"folder": float(value), "mlflow": value}["folder" if isinstance(run, Folder) else "mlflow"]
    largest = sys.float_info.max  # MLflow has no infinity
    assert (
        math.isnan(shown) if math.isnan(bad) else min(max(bad, -largest), largest) == min(max(shown, -largest), largest)
    )


def test_any_json_reader_takes_the_rows_of_a_folder(tmp_path):
    values = {"images_seen": 64, "a": math.inf, "b": -math.inf, "c": math.nan, "d": 1.5}
    FolderTracker(tmp_path).metrics(1, values)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    strict = json.loads(line, parse_constant=refuse)
    assert strict == {"step": 1, "images_seen": 64, "a": "inf", "b": "-inf", "c": "nan", "d": 1.5}
    (again,) = RunPaths(tmp_path).rows()
    assert again.keys() == {"step", *values}
    assert all(math.isnan(again[name]) if name == "c" else again[name] == values[name] for name in values)


def test_tags_are_merged(run):
    run.open().tags({"ganfleet.kind": "train", "note": "first"})
    run.open().tags({"note": "zweite, größer"})
    assert run.tags()["ganfleet.kind"] == "train"
    assert run.tags()["note"] == "zweite, größer"


def test_a_fan_out_brings_the_tracker_that_is_behind_up_to_date(tmp_path, store):
    folder, mlflow = Folder(tmp_path / "a"), Mlflow(tmp_path / "b", store)
    folder.open().metrics(1, row(1, fid=7.0))
    both = Trackers([folder.open(), mlflow.open()])
    assert both.last_step == -1
    for step in (1, 2):
        both.picture(step, png(step))
        both.metrics(step, row(step, fid=7.0))
    both.tags({"note": "x"})
    assert both.last_step == 2
    assert folder.values("fid") == mlflow.values("fid") == [(1, 7.0), (2, 7.0)]
    assert folder.pictures() == mlflow.pictures() == {1: [1], 2: [2]}
    assert folder.tags()["note"] == mlflow.tags()["note"] == "x"


def test_folder_a_torn_last_line_is_cut_off(tmp_path):
    run = Folder(tmp_path)
    for step in (1, 2):
        run.open().metrics(step, row(step))
    rows = tmp_path / "run" / "metrics.jsonl"
    rows.write_bytes(rows.read_bytes()[:-9])
    resumed = run.open()
    assert resumed.last_step == 1
    resumed.metrics(2, row(2, fid=5.0))
    assert run.values("fid") == [(1, 1.0), (2, 5.0)]


def test_folder_each_row_has_a_time_and_the_last_one_counts(tmp_path):
    """A crash between a row's time and the row, or within either line."""
    for step in (1, 2):
        Folder(tmp_path).open().metrics(step, row(step))
    times = tmp_path / "run" / "times.jsonl"
    with times.open("a") as file:
        file.write('{"step": 3, "time": 5}\n{"step": 3, "ti')
    began = now()
    Folder(tmp_path).open().metrics(3, row(3))
    lines = [json.loads(line) for line in times.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert began <= lines[-1]["time"] <= now()


def test_folder_a_file_with_nothing_but_a_torn_line_is_a_new_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "im')
    assert Folder(tmp_path).open().last_step == -1
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_folder_a_foreign_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("step,fid\n1,2\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl"):
        Folder(tmp_path).open()


def test_folder_the_files_are_as_documented(tmp_path):
    tracker = FolderTracker(tmp_path / "run")
    tracker.picture(100, png(1))
    tracker.metrics(100, {"images_seen": 6400, "fid": 12.5})
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ('{"step": 100, "images_seen": 6400, "fid": 12.5}\n')
    assert (tmp_path / "run" / "samples" / "step-000100.png").read_bytes() == png(1)
