"""Warning signs on the screen, with a terminal and without."""

import io

import pytest
from rich.console import Console

from gan_core.signs import Sign
from pipelines.outcome import Outcome
from pipelines.screen import SearchView, TrainView

SIGN = Sign("mode_collapse", "variety of the samples 0.1, it was 0.9", "try family.lr=5e-05")


def screen(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, no_color=True)


def outcome(signs: str) -> Outcome:
    return Outcome("90c80b7c", "running", {"name": "gan", "lr": 0.1}, 20, 40, 12.5, 100.0, None, signs)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_warning_sign_of_a_run_is_a_line_of_its_own(terminal):
    console = screen(terminal)
    with TrainView(console, "first") as view:
        view.show(50, 100, {"images_per_second": 10.0, "fid": 30.0})
        view.warn(50, SIGN)
    said = console.file.getvalue()
    line = "first  step 50  warning sign, mode collapse: variety of the samples 0.1, it was 0.9; try family.lr=5e-05"
    assert any(one.strip().endswith(line) for one in said.splitlines())


def test_the_warning_signs_of_a_trial_stand_in_its_line():
    console = screen(terminal=False)
    with SearchView(console, trials=1) as view:
        view.update(outcome("mode_collapse, large_clip"))
    assert "FID 12.5  running  (mode_collapse, large_clip)  |" in console.file.getvalue()
    quiet = screen(terminal=False)
    with SearchView(quiet, trials=1) as view:
        view.update(outcome(""))
    assert "FID 12.5  running  |" in quiet.file.getvalue()


def test_the_warning_signs_of_a_trial_stand_in_the_live_table():
    console = screen(terminal=True)
    with SearchView(console, trials=1) as view:
        view.update(outcome("mode_collapse"))
    row = next(line for line in console.file.getvalue().splitlines() if "90c80b7c" in line)
    assert row.rstrip().endswith("mode_collapse")
