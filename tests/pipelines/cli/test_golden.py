"""What the command line answers is what was recorded in `tests/golden`: help, dry runs, error lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.commands import HERE, answers, read

pytestmark = pytest.mark.xdist_group("golden")  # one process answers them all

NAMES = sorted(path.stem for path in HERE.glob("*.txt"))
RECORDED = {name: read(name) for name in NAMES}
ABOUT_IMAGES = {
    "data pack ring8 out": ", loaded numpy torch",
    "data pack digits a-file": ", loaded numpy torch",
    "evaluate photos empty": ", loaded numpy torch",
}
"""The mistakes that the code which reads images finds, and what that loads."""


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


@pytest.mark.parametrize("line", RECORDED["errors"])
def test_a_mistake_is_one_line_told_before_anything_is_loaded_or_made(line):
    code, error = RECORDED["errors"][line].splitlines()
    assert code == f"exit 2{ABOUT_IMAGES.get(line, '')}"
    assert error.startswith("error: ")


def test_help_and_dry_runs_load_and_make_nothing():
    for line, answer in (RECORDED["help"] | RECORDED["dry_run"]).items():
        code = answer.splitlines()[0]
        assert "loaded" not in code, line
        assert "changed" not in code, line
