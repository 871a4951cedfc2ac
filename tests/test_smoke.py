"""Train, search and their resumptions on one cluster: they end well and leave behind what was recorded."""

from __future__ import annotations

import json

import pytest

from tests.golden.played import LINES, RECORD, left_behind, play

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def found(ray_cluster, tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("smoke")
    assert play(folder) == [0] * len(LINES)
    return left_behind(folder)


@pytest.mark.parametrize("part", ["files", "rows", "tables", "best", "evaluation", "mlflow"])
def test_what_is_left_behind_is_what_was_recorded(found, part):
    assert found[part] == json.loads(RECORD.read_text())[part]
