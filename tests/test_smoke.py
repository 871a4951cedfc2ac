"""Train, search and their resumptions on one cluster: they end well and leave behind what was recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.golden.played import LINES, RECORD, left_behind, play

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def folder(ray_cluster, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    assert play(folder) == [0] * len(LINES)
    return folder


@pytest.fixture(scope="module")
def found(folder) -> dict[str, object]:
    return left_behind(folder)


@pytest.mark.parametrize("part", ["files", "rows", "tables", "best", "evaluation", "mlflow"])
def test_what_is_left_behind_is_what_was_recorded(found, part):
    assert found[part] == json.loads(RECORD.read_text())[part]


@pytest.mark.parametrize("name", ["run", "hunt"])
def test_a_log_tells_each_driver_from_what_was_typed_to_its_end(folder, name):
    lines = (folder / "runs" / name / "run.log").read_text().splitlines()
    assert all(re.match(r"20\d\d(-\d\d){2} \d\d(:\d\d){2} | {20}", line) for line in lines)
    stamps = [line[:19] for line in lines if line[0] != " "]
    assert stamps == sorted(stamps)
    said = [line[20:] for line in lines]
    typed = [
        " ".join(["ganfleet", *line]) for line in LINES if f"name={name}" in line or line[1:3] == ("--resume", name)
    ]
    starts = [number for number, line in enumerate(said) if line.endswith(tuple(typed))]
    assert (len(starts), starts[0]) == (2, 0)
    assert said[starts[1] - 1] == said[-1] == "done"
    for number in starts:
        assert said[number + 1].startswith("settings: {")
        assert any(line.startswith("data: digits") for line in said[number + 2 : number + 5])
    if name == "run":
        assert sum(line.startswith("run  step ") and "/6  FID" in line for line in said) == 1, "resumed at step 4"
    else:
        told = [line.split()[1] for line in said if line.startswith("trial t0")]
        assert sorted(one for one in told if "-" not in one) == [f"t000{n}" for n in range(1, 6)], "none twice"
        assert sum("-" in one for one in told) == 2, "the runs of the confirmation"
    assert not [line for line in said if "pid=" in line or "Traceback" in line]
