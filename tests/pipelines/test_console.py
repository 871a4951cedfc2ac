"""What the screen shows of a run and of a search, with a terminal and without."""

import io
import logging
import os
import re
import sys
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gan_core.health.signs import Sign
from pipelines import console as console_module
from pipelines.console import (
    SILENT_SECONDS,
    STATUS_SECONDS,
    byte_bar,
    count_bar,
    mean_and_sd,
    quiet,
    say,
    say_table,
    silence,
    working,
)
from pipelines.launch._log import logged
from pipelines.launch._search_request import search_experiment
from pipelines.search._outcome import Outcome
from pipelines.search.report._shorten import fitting
from pipelines.search.report.live_table import SearchView
from pipelines.train._view import TrainView

SIGN = Sign("mode_collapse", "variety of the samples 0.1, it was 0.9", "try family.lr=5e-05")


def screen(terminal: bool, width: int = 160, height: int = 40) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=height, no_color=True)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def view_of(console: Console, clock: Clock | None = None, *assignments: str) -> SearchView:
    settings = ["search.trials=8", "search.scheduler=none", "budget.rounds=40", "budget.eval_every=10", *assignments]
    return SearchView(console, search_experiment(["gan", "wgan_gp"], settings), clock or Clock())


def outcome(
    trial: str = "90c80b7c", state: str = "running", step: int = 20, fid: float | None = 12.5, **more: str
) -> Outcome:
    checkpoint = "there" if fid is not None else None
    return Outcome(trial, state, {"name": "gan", "lr": 0.1}, step, 40, fid, 100.0, checkpoint, **more)


def lines(console: Console) -> list[str]:
    return Text.from_ansi(console.file.getvalue()).plain.splitlines()


def drawn(view: SearchView) -> list[str]:
    """The live table, as the terminal shows it."""
    with view.console.capture() as captured:
        view.console.print(view.table())
    return Text.from_ansi(captured.get()).plain.splitlines()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_warning_sign_of_a_run_is_a_line_of_its_own(terminal):
    console = screen(terminal)
    with TrainView(console, "first") as view:
        view.show(50, 100, {"images_per_second": 10.0, "fid": 30.0})
        view.warn(50, SIGN)
    said = console.file.getvalue()
    line = "first  step 50  warning sign, mode collapse: variety of the samples 0.1, it was 0.9; try family.lr=5e-05"
    assert any(one.strip().endswith(line) for one in said.splitlines())


# Bars


class Heard(io.StringIO):
    """A log that counts its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.more = Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        self.more.set()
        return written

    def wait(self) -> None:
        self.more.clear()
        assert self.more.wait(60), "nothing was printed"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(console_module, "SILENT_SECONDS", 0.01)


def test_a_bar_that_does_not_move_speaks_into_a_log(impatient):
    log = Heard()
    console = Console(file=log, width=200)
    with working(console, "starting Ray"):
        log.wait()
    with count_bar(console, "decoding images", 60_000) as move:
        log.wait()
        move(15_000)
        log.wait()
        log.wait()
    with byte_bar(console, "fetching", 91_000_000) as move:
        move(45_000_000)
        log.wait()
    log.more.clear()
    assert not log.more.wait(0.1), "a bar that has ended is silent"
    said = log.getvalue().splitlines()
    assert said[0] == "starting Ray: 0:00 so far"
    assert "decoding images: 0 of 60,000" in said
    assert (
        "decoding images: 15,000 of 60,000, 0:00 left" in said or "decoding images: 15,000 of 60,000, 0:01 left" in said
    )
    assert said[-1].startswith("fetching: 45 of 91 MB, 0:0")


def test_of_bars_within_each_other_the_inner_one_speaks(impatient):
    log = Heard()
    console = Console(file=log, width=200)
    with working(console, "data"):
        log.wait()
        with count_bar(console, "digest", 3):
            log.wait()
            log.wait()
            begun = len(log.getvalue())
            log.wait()
            inner = log.getvalue()[begun:]
        ended = len(log.getvalue())
        log.wait()
    assert "digest: 0 of 3" in inner
    assert "data" not in inner
    assert log.getvalue()[ended:].startswith("data: ")


def test_a_bar_is_silent_while_others_speak():
    log = Heard()
    console = Console(file=log, width=200)
    with working(console, "data"):
        say(console, "note: one image is grey")
    assert log.getvalue() == "note: one image is grey\n"


def test_bars_within_each_other_are_all_on_a_terminal():
    log = Heard()
    console = Console(file=log, force_terminal=True, width=100, no_color=True)
    with working(console, "data"), count_bar(console, "decoding images", 3) as move:
        move(2)
        while "2/3" not in log.getvalue():
            log.wait()
    drawn_once = log.getvalue().partition("2/3")[0].splitlines()[-2:]
    assert [Text.from_ansi(line).plain.split()[0] for line in drawn_once] == ["data", "decoding"]


# Without a terminal


def test_the_end_of_each_trial_is_a_line_and_its_evaluations_are_not():
    console = screen(terminal=False)
    with view_of(console) as view:
        view.update(outcome(step=0, fid=None))
        view.update(outcome(step=20))
        view.update(outcome(state="completed", step=40, signs="mode_collapse"))
        view.update(outcome("5f", "failed", 0, None, reason="loss/critic is nan at step 12"))
    assert lines(console) == [
        "trial 90c80b7c  gan lr=0.1  step 40/40  FID 12.5  completed  (mode_collapse)",
        "trial 5f  gan lr=0.1  step 0/40  FID -  failed  (loss/critic is nan at step 12)",
    ]


def test_each_minute_the_log_has_a_line_though_nothing_happens(tmp_path):
    console, clock = screen(terminal=False), Clock()
    view = view_of(console, clock)
    view.update(outcome(step=20))
    with logged(tmp_path / "run.log"):
        for _ in range(130):
            clock.now += 1
            view.tick(1280, clock.now - 1000)
    assumption = "ETA: every trial plays its whole budget"
    assert lines(console) == [assumption], "the screen is told by its own clock"
    assert unstamped(tmp_path / "run.log") == [
        assumption,
        "0/8 trials (1 running), best FID 12.5 (trial 90c80b7c, gan lr=0.1), 1:00 elapsed, ETA 15:00",
        "0/8 trials (1 running), best FID 12.5 (trial 90c80b7c, gan lr=0.1), 2:00 elapsed, ETA 30:00",
    ]


def test_a_search_and_a_run_say_what_they_wait_for(impatient):
    log = Heard()
    console, clock = Console(file=log, width=200), Clock()
    with view_of(console, clock) as view:
        view.wait_for("Ray to start")
        clock.now += 21
        log.wait()
        log.wait()
        assert log.getvalue().endswith("0/8 trials, waiting for Ray to start, 0:21 so far, no FID yet, 0:21 elapsed\n")
        view.wait_for("the first evaluation")
        view.update(outcome(fid=None, step=0))
        log.wait()
        log.wait()
        assert "0/8 trials (1 running), waiting for the first evaluation, 0:00 so far, " in log.getvalue()
        view.update(outcome(step=10))
        log.wait()
        log.wait()
        assert log.getvalue().splitlines()[-1].startswith("0/8 trials (1 running), best FID 12.5")
    with TrainView(console, "first") as run:
        run.wait_for("2 workers with 1 CPU each")
        log.wait()
        log.wait()
        assert log.getvalue().endswith("first  waiting for 2 workers with 1 CPU each, 0:00 so far\n")
        run.show(50, 100, {"images_per_second": 10.0})
        log.wait()
        log.wait()
        assert log.getvalue().endswith("first  step 50/100  FID -  10 images/s\n")


def test_the_screen_of_a_long_step_speaks_more_seldom():
    assert [silence(seconds) for seconds in (0, 500, 1000, 86_400)] == [SILENT_SECONDS, 2, 4, STATUS_SECONDS]


# The log of a run


def unstamped(log: Path) -> list[str]:
    """The lines of a run's log, each without its time."""
    found = [
        re.fullmatch(r"(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d | {20})(.*)", line) for line in log.read_text().splitlines()
    ]
    return [line[2] for line in found]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_runs_log_has_our_lines_in_order_and_the_other_file_what_libraries_say(
    tmp_path, monkeypatch, terminal, capfd
):
    """Though a terminal shows a bar and a table only."""
    monkeypatch.setattr(sys, "stdout", os.fdopen(1, "w", closefd=False))  # holds back what it is given
    ours, others = tmp_path / "run.log", tmp_path / "ray.log"
    with logged(ours), quiet(others):
        console = screen(terminal)
        say(console, "data: digits")
        print("(RayTrainWorker pid=7) noise")
        os.write(2, b"from C++\n")
        print("more noise")
        with TrainView(console, "first") as run:
            run.show(20, 40, {"images_per_second": 10.0, "fid": 30.0})
        with view_of(console) as view:
            view.update(outcome(state="completed", step=40))
        table = Table(box=None)
        table.add_column("trial")
        table.add_row("t0001")
        say_table(console, table)
        logging.getLogger("pipelines.tracking.retry").warning("MLflow is away: %s", "http://mary:hunter2@host")
        logging.getLogger("ray.tune").warning("Failed to fetch metrics")
        try:
            raise ValueError("boom")
        except ValueError:
            logging.getLogger("pipelines.launch").error("it failed", exc_info=True)
    said = [line.strip() for line in unstamped(ours)]
    assert said[:6] == [
        "data: digits",
        "first  step 20/40  FID 30.0  10 images/s",
        "trial 90c80b7c  gan lr=0.1  step 40/40  FID 12.5  completed",
        "trial",
        "t0001",
        "warning: MLflow is away: http://***@host",
    ]
    assert (said[6], said[-1]) == ("error: it failed", "ValueError: boom")
    assert "Traceback (most recent call last):" in said
    noise = others.read_text()
    assert noise.startswith("(RayTrainWorker pid=7) noise\nfrom C++\nmore noise\n"), "in the order of time"
    assert "data: digits" not in noise
    assert capfd.readouterr() == ("", "")
    say(console, "after it")
    assert "after it" not in ours.read_text()


# Without a terminal


def test_the_status_counts_each_state():
    console, clock = screen(terminal=False), Clock()
    view = view_of(console, clock)
    for number, state in enumerate(["completed", "stopped", "stopped", "failed", "running"]):
        view.update(outcome(f"t{number}", state, 40, None))
    clock.now += 61
    view.tick(0, 61)
    assert view.status().startswith("4/8 trials (1 running, 2 stopped, 1 failed), no FID yet, 1:01 elapsed")


def test_budgets_are_told_and_bound_the_time_left():
    clock = Clock()
    free = view_of(screen(terminal=False), clock)
    hours = view_of(screen(terminal=False), clock, "search.hours=0.1")
    images = view_of(screen(terminal=False), clock, "search.images=2000")
    clock.now += 100
    for view in (free, hours, images):
        view.update(outcome(state="completed", step=40))
        view.tick(1000, 100)
    assert free.seconds_left() == pytest.approx(700)
    assert hours.seconds_left() == pytest.approx(260)
    assert images.seconds_left() == pytest.approx(100)
    assert "1:40 of 0.1 h elapsed" in hours.status()
    assert "1,000 of 2,000 images" in images.status()


def test_a_resumed_search_counts_old_trials_but_not_as_work_of_this_sitting():
    console, clock = screen(terminal=False), Clock()
    view = view_of(console, clock)
    view.restore([outcome("old", "completed", 40, 30.0)])
    assert lines(console) == [], "its end was printed when it ended"
    assert view.seconds_left() is None
    view.update(outcome(state="completed", step=40))
    clock.now += 60
    view.tick(2560, seconds=3600)
    assert view.seconds_left() == pytest.approx(6 * 60)
    assert view.status().startswith("2/8 trials, best FID 12.5")
    assert "1:00:00 elapsed" in view.status(), "that of all sittings"


def test_confirmation_is_told_apart():
    console, clock = screen(terminal=False), Clock()
    view = view_of(console, clock, "search.hours=1", "search.scheduler=asha")
    view.update(outcome(state="completed", step=40))
    view.confirm(
        [outcome(f"{trial}-{seed}", "waiting", 0, None) for trial in ("90c80b7c", "5f") for seed in (3, 17, 8)], 3
    )
    view.update(outcome("90c80b7c-17", "completed", 40, 14.0))
    clock.now += 60
    view.tick(0, 60)
    assert lines(console)[1] == "confirming 2 settings x 3 seeds"
    status = "1/6 runs, best FID 14.0 (trial 90c80b7c-17, gan lr=0.1), 1:00 elapsed, ETA 5:00"
    assert view.status() == f"confirming 2 settings x 3 seeds: {status}"
    shown = drawn(view)
    assert [line.split()[0] for line in shown if "gan lr=0.1" in line][1:] == [
        "90c80b7c-17",
        *(f"{trial}-{seed}" for trial, seed in [("5f", 17), ("5f", 3), ("5f", 8), ("90c80b7c", 3), ("90c80b7c", 8)]),
    ]


# On a terminal


def crowded(console: Console) -> SearchView:
    """Forty trials, more than fit on the screen. The running ones come last."""
    view = view_of(console, None, "search.trials=60", "search.scheduler=asha")
    for number in range(40):
        settings = {"name": "wgan_gp", "lr": 0.000312, "beta1": 0.123, "gp_lambda": 12.34, "n_critic": 5}
        state = "running" if number >= 37 else "failed" if number >= 30 else "completed"
        fid, signs = (None, "") if state == "failed" else (100.0 - number, "mode_collapse" * (number == 3))
        reason = "loss/critic is nan at step 12" if state == "failed" else ""
        view.update(Outcome(f"{number:08x}", state, settings, 40, 40, fid, 1234.5, "x", signs, reason))
    return view


def test_a_live_table_is_shown_while_it_runs():
    console = screen(terminal=True)
    with view_of(console) as view:
        view.update(outcome(signs="mode_collapse"))
    row = next(line for line in lines(console) if "90c80b7c" in line and "12.5" in line and "running" in line)
    assert row.split() == ["90c80b7c", "gan", "lr=0.1", "20", "12.5", "-", "running", "100", "mode_collapse"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 12), (60, 20), (100, 40), (160, 30), (220, 60)])
def test_the_table_fits_the_terminal(width, height):
    shown = drawn(crowded(screen(True, width, height)))
    assert len(shown) < height
    assert all(len(line.rstrip()) <= width for line in shown)


def test_running_trials_come_first_then_the_best():
    shown = drawn(crowded(screen(True, 80, 30)))
    ids = [line.split()[0] for line in shown if line.startswith("000000")]
    assert ids[:5] == ["00000027", "00000026", "00000025", "0000001d", "0000001c"]
    assert any(line.startswith("trials without a row: ") for line in shown)


def test_all_settings_are_told_on_eighty_columns():
    shown = drawn(crowded(screen(True, 80, 30)))
    row = next(line for line in shown if line.startswith("0000001d"))
    assert row.split() == ["0000001d", "lr=3.1e-4", "b1=.12", "gl=12", "nc=5", "40", "71.0", "2/2", "done", "1234"]
    assert "b1: beta1, gl: gp_lambda, nc: n_critic" in [line.strip() for line in shown]


def test_why_trials_failed_is_told_below_a_narrow_table_and_in_a_wide_one():
    narrow = drawn(crowded(screen(True, 80, 30)))
    assert sum("loss/critic is nan at step 12" in line for line in narrow) == 4
    assert "more with notes: 4" in [line.strip() for line in narrow]
    wide = drawn(crowded(screen(True, 160, 60)))
    assert sum("failed" in line and "loss/critic is nan" in line for line in wide) == 7


# Settings in a line


WGAN_GP = {"name": "wgan_gp", "lr": 0.000312, "beta1": 0.123, "gp_lambda": 12.34, "n_critic": 5}


@pytest.mark.parametrize(
    ("room", "line"),
    [
        (80, "wgan_gp lr=0.000312 beta1=0.123 gp_lambda=12.3 n_critic=5"),
        (50, "lr=3.1e-4 beta1=.12 gp_lambda=12 n_critic=5"),
        (30, "lr=3.1e-4 b1=.12 gl=12 nc=5"),
        (24, "lr=3e-4 b1=.1 gl=12 nc=5"),
        (5, "lr=3e-4 b1=.1 gl=12 nc=5"),
    ],
)
def test_settings_take_what_room_there_is(room, line):
    assert fitting([WGAN_GP], room).line(WGAN_GP) == line


def test_a_family_is_named_where_there_are_several():
    gan = {"name": "gan", "lr": 0.5, "beta1": 0.0}
    found = fitting([WGAN_GP, gan], 40)
    assert [found.line(one) for one in (WGAN_GP, gan)] == ["wgan_gp lr=3.1e-4 b1=.12 gl=12 nc=5", "gan lr=.5 b1=0"]


def test_names_that_would_be_the_same_stay_long():
    settings = {"name": "x", "gp_lambda": 1.0, "gamma_long": 2.0, "n_critic": 1}
    assert fitting([settings], 1).line(settings) == "gp_lambda=1 gamma_long=2 nc=1"


@pytest.mark.parametrize(
    ("mean", "sd", "shown"),
    [
        (4714.3, 504.2, "4,710 ± 500"),
        (45.03, 1.21, "45.0 ± 1.2"),
        (35.149, 0.0996, "35.15 ± 0.10"),
        (12345.6, 9.96, "12,346 ± 10"),
        (123456.7, 2345.6, "123,500 ± 2,300"),
        (0.81234, 0.0123, "0.812 ± 0.012"),
        (7.0, 0.0, "7 ± 0"),
        (31.25, None, "31.2"),
        (None, None, "-"),
        (float("inf"), float("nan"), "inf"),
    ],
)
def test_a_mean_is_shown_as_far_as_its_spread_tells(mean, sd, shown):
    assert mean_and_sd(mean, sd) == shown
