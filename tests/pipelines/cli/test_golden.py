"""What the command line answers is what was recorded in `tests/golden`: help, dry runs, error lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.commands import HERE, answers, read

NAMES = sorted(path.stem for path in HERE.glob("*.txt"))
RECORDED = {name: read(name) for name in NAMES}


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> dict[str, dict[str, str]]:
    def now(name: str) -> dict[str, str]:
        lines = list(RECORDED[name])
        folder: Path = tmp_path_factory.mktemp(name)
        return dict(zip(lines, answers(lines, folder), strict=True))

    return {name: now(name) for name in NAMES}


@pytest.mark.parametrize(("name", "line"), [(name, line) for name in NAMES for line in RECORDED[name]])
def test_a_command_line_answers_as_recorded(answered, name, line):
    assert answered[name][line] == RECORDED[name][line]
