"""Pictures of searches whose folders are written by hand: numbers are recomputed, pictures read with PIL."""

import io
import json
import math
import os
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from rich.console import Console

from gan_core.measures import FID, Objective
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._outcome import Outcome, short_names
from pipelines.search.plots._history import best_so_far, points
from pipelines.search.plots._importance import LEAST_TRIALS, importance
from pipelines.search.plots._panels import draw_panels
from pipelines.search.plots._progress import draw_progress
from pipelines.search.plots._sheet import draw_sheet
from pipelines.search.plots._style import Scale, families_of, log_ticks, plain
from pipelines.search.plots.draw import draw_learned, pictures, try_to_draw
from pipelines.search.report.final_report import print_report, write_report
from pipelines.settings._experiments import SearchExperiment
from tests.gan_core import modern
from tune_spaces.domains import Choice, Range, Whole

HIGH = Objective("my_score", "max")
SIDE = 50 * 8 + 2
"""The side of a grid of 8x8 samples of 16x16 pixels, enlarged three times, 2 pixels apart."""


def outcome(trial: str, state: str, fid: float | None, step: int = 40, **settings: object) -> Outcome:
    return Outcome(trial, state, {"name": "wgan_gp", **settings}, step, 40, fid, 100.0, "checkpoint")


def write_trial(
    folder: RunFolder, trial: str, rows: Sequence[dict], times: dict[int, float], colour: int = 128, end: float = 0.0
) -> None:
    """Writes a trial's rows, and a grey sample grid for each evaluation with the given file time."""
    path = folder.trial(trial).path
    (path / "samples").mkdir(parents=True)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.utime(path / "metrics.jsonl", (end or max(times.values(), default=1),) * 2)
    for step, time in times.items():
        picture = path / "samples" / f"step-{step:06d}.png"
        Image.new("L", (SIDE, SIDE), colour).save(picture)
        os.utime(picture, (time, time))


def row(step: int, images: int, fid: float | None = None) -> dict:
    return {"step": step, "images_seen": images, "loss/critic": 1.0, **({} if fid is None else {"fid": fid})}


def searched(storage: Path, *assignments: str, families: Sequence[str] = ("wgan_gp",)) -> SearchExperiment:
    return search_experiment(families, ["name=hunt", f"storage.path={storage}", *assignments])


def drawn_at_random(experiment: SearchExperiment, seed: int, count: int, weight: dict[str, float]) -> list[Outcome]:
    """Trials whose log FID is a weighted sum of their settings' positions in the space, with a little noise."""
    draws = random.Random(seed)
    found = []
    for number in range(count):
        family = experiment.families[number % len(experiment.families)].name
        settings: dict[str, object] = {}
        height = draws.gauss(0, 0.05)
        for field, domain in experiment.spaces()[family].items():
            place = draws.random()
            if isinstance(domain, Choice):
                settings[field] = domain.values[int(place * len(domain.values))]
            elif domain.log:
                settings[field] = domain.low * (domain.high / domain.low) ** place
            else:
                settings[field] = domain.low + (domain.high - domain.low) * place
            height += weight.get(field, 0.0) * place
        state = "completed" if number % 3 else "stopped"
        one = Outcome(f"t{number:03d}", state, {"name": family, **settings}, 40, 40, 20 * math.exp(height), 1.0, "x")
        found.append(one)
    return found


@pytest.fixture
def two_families(tmp_path) -> tuple[RunFolder, SearchExperiment, list[Outcome]]:
    """Forty trials, one of which failed, each with one evaluation."""
    experiment = searched(tmp_path, "search.compare=true", families=("wgan", "wgan_gp"))
    outcomes = drawn_at_random(experiment, 0, 40, {"lr": 4.0})
    lost = outcomes[5]
    outcomes[5] = Outcome(lost.trial, "failed", lost.settings, 20, 40, None, None, None, reason="not finite")
    folder = RunFolder(experiment.folder)
    for number, one in enumerate(outcomes):
        step = one.step
        write_trial(folder, one.trial, [row(step, step * 64, one.value or 500.0)], {step: 100.0 + number})
    return folder, experiment, outcomes


# Compute


@pytest.fixture
def three(tmp_path) -> tuple[RunFolder, list[Outcome]]:
    """a and b take turns. c has the lowest FID of all, trains on after its evaluation, and fails."""
    folder = RunFolder(tmp_path / "hunt")
    write_trial(folder, "a", [row(10, 50), row(20, 100, 50.0), row(40, 200, 20.0)], {20: 10.0, 40: 30.0})
    write_trial(folder, "b", [row(20, 100, 60.0), row(40, 200, 40.0)], {20: 20.0, 40: 60.0})
    write_trial(folder, "c", [row(20, 300, 5.0), row(30, 450)], {20: 40.0}, end=50.0)
    states = {"a": "completed", "b": "completed", "c": "failed"}
    return folder, [outcome(trial, state, 20.0) for trial, state in states.items()]


def test_images_are_summed_over_trials_in_order_of_time(three):
    """a 100 | b 100 | a 100 | c 300, then 150 without an evaluation | b 100."""
    found = [(one.trial.trial, one.images, one.value) for one in points(*three, FID)]
    assert found == [("a", 100, 50.0), ("b", 200, 60.0), ("a", 300, 20.0), ("c", 600, 5.0), ("b", 850, 40.0)]


def test_the_best_so_far_only_falls_and_is_never_a_failed_trials(three):
    assert [(one.images, one.value) for one in best_so_far(points(*three, FID), FID)] == [(100, 50.0), (300, 20.0)]


def test_of_a_measure_whose_high_values_are_good_the_best_so_far_only_rises(three):
    folder, outcomes = three
    for trial in "abc":
        file = folder.trial(trial).path / "metrics.jsonl"
        file.write_text(file.read_text().replace('"fid"', '"my_score"'))
    found = points(folder, outcomes, HIGH)
    assert [(one.images, one.value) for one in best_so_far(found, HIGH)] == [(100, 50.0), (200, 60.0)]
    axes = draw_progress(found, {"wgan_gp": "#000000"}, HIGH).axes[0]
    assert (axes.get_yscale(), axes.get_ylabel()) == ("linear", "my_score")
    assert axes.get_title().startswith("Highest my_score of any evaluation: 60.0")


def test_the_line_is_drawn_to_the_end_of_the_search(three):
    folder, outcomes = three
    sheet = draw_progress(points(folder, outcomes, FID), {"wgan_gp": "#000000"}, FID)
    (line,) = [line for line in sheet.axes[0].lines if len(line.get_xdata())]
    assert line.get_xdata().tolist() == [100, 300, 850]
    assert line.get_ydata().tolist() == [50.0, 20.0, 20.0]
    assert sheet.axes[0].get_yscale() == "log"


def test_a_line_that_a_crash_cut_off_is_left_out(three):
    folder, outcomes = three
    file = folder.trial("b").path / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 60, "images_se')
    assert len(points(folder, outcomes, FID)) == 5
    assert points(folder, [outcome("never began", "waiting", None)], FID) == []


# Importance


@pytest.mark.parametrize("dominant", ["lr", "gp_lambda", "n_critic"])
def test_the_dominant_field_explains_the_most(tmp_path, dominant):
    experiment = searched(tmp_path)
    outcomes = drawn_at_random(experiment, 1, 40, {dominant: 4.0, "beta1": 0.3})
    found = importance(outcomes, experiment.spaces()["wgan_gp"], FID)
    assert next(iter(found)) == dominant
    assert found[dominant] > 0.6
    assert sum(found.values()) == pytest.approx(1)
    assert set(found) == set(experiment.spaces()["wgan_gp"])


def test_too_few_trials_or_failed_ones_have_no_importance(tmp_path):
    experiment = searched(tmp_path)
    space = experiment.spaces()["wgan_gp"]
    outcomes = drawn_at_random(experiment, 2, LEAST_TRIALS, {"lr": 4.0})
    assert importance(outcomes, space, FID)
    assert importance(outcomes[1:], space, FID) == {}
    last = outcomes[-1]
    failed = Outcome(last.trial, "failed", last.settings, 40, 40, 9.0, None, None)
    assert importance([*outcomes[:-1], failed], space, FID) == {}
    same = [Outcome(one.trial, "completed", one.settings, 40, 40, 9.0, None, None) for one in outcomes]
    assert importance(same, space, FID) == {}


def test_settings_outside_the_space_are_no_error(tmp_path):
    """Start points may be outside the space."""
    experiment = searched(tmp_path)
    outcomes = drawn_at_random(experiment, 3, 20, {"lr": 4.0})
    far = {"name": "wgan_gp", "lr": 0.5, "beta1": 0.95, "gp_lambda": 0.0, "n_critic": 7}
    outcomes.append(Outcome("far", "completed", far, 40, 40, 300.0, None, None))
    assert importance(outcomes, experiment.spaces()["wgan_gp"], FID)
    folder = RunFolder(experiment.folder)
    assert {path.stem for path in draw_learned(folder, experiment, outcomes)} == {"settings", "parallel", "importance"}


# Axes


def test_places_on_an_axis():
    assert Scale.of(Range(1e-4, 1e-2, log=True), [1e-3]).place(1e-3) == pytest.approx(0.5)
    assert Scale.of(Range(0.0, 0.8), []).place(0.2) == pytest.approx(0.25)
    assert Scale.of(Choice((1, 2, 5)), [7]).place(7) == pytest.approx(3.5 / 4)
    widened = Scale.of(Range(1e-4, 1e-2, log=True), [1.0])
    assert (widened.place(1e-4), widened.place(1.0)) == (0.0, 1.0)
    assert not Scale.of(Range(0.1, 1.0, log=True), [0.0]).log
    assert all(label == str(int(label)) for _, label in Scale.of(Whole(1, 5), [2]).ticks() for label in [label])


@pytest.mark.parametrize(("low", "high"), [(5e-5, 2e-3), (16, 1400), (21.0, 24.5), (3e-3, 0.3), (9.9, 10.1), (1, 1e6)])
def test_ticks_are_few_round_and_told_apart(low, high):
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)
    assert len({plain(tick) for tick in ticks}) == len(ticks)


def test_failed_trials_stand_at_the_top_edge(tmp_path):
    experiment = searched(tmp_path)
    outcomes = drawn_at_random(experiment, 4, 6, {"lr": 4.0})
    lost = outcomes[2]
    outcomes[2] = Outcome(lost.trial, "failed", lost.settings, 20, 40, 3.0, None, None)
    sheet = draw_panels(outcomes, experiment.spaces(), families_of(experiment), FID)
    panel = next(axes for axes in sheet.axes if axes.get_xlabel() == "lr (log)")
    (at_edge,) = [dots for dots in panel.collections if dots.get_offset_transform() == panel.get_xaxis_transform()]
    ((place, height),) = at_edge.get_offsets()
    domain = experiment.spaces()["wgan_gp"]["lr"]
    assert place == pytest.approx(math.log(lost.settings["lr"] / domain.low) / math.log(domain.high / domain.low))
    assert 0.9 < height < 1
    heights = [height for dots in panel.collections if dots is not at_edge for _, height in dots.get_offsets()]
    assert sorted(heights) == pytest.approx(sorted(one.value for one in outcomes if one.state != "failed"))


def test_where_high_values_are_good_failed_trials_stand_at_the_bottom_edge(tmp_path):
    experiment = searched(tmp_path)
    outcomes = drawn_at_random(experiment, 4, 6, {"lr": 4.0})
    outcomes = [replace(one, value=0.0 if n == 3 else -(one.value or 0.0)) for n, one in enumerate(outcomes)]
    outcomes[2] = replace(outcomes[2], state="failed", value=None)
    sheet = draw_panels(outcomes, experiment.spaces(), families_of(experiment), HIGH)
    panel = next(axes for axes in sheet.axes if axes.get_xlabel() == "lr (log)")
    (at_edge,) = [dots for dots in panel.collections if dots.get_offset_transform() == panel.get_xaxis_transform()]
    ((_, height),) = at_edge.get_offsets()
    lowest = min(height for dots in panel.collections if dots is not at_edge for _, height in dots.get_offsets())
    to_axes = panel.transData + panel.transAxes.inverted()
    assert 0 < height < to_axes.transform((0.0, lowest))[1]


# Pictures


def test_all_pictures_are_drawn_and_can_be_read(two_families):
    folder, experiment, outcomes = two_families
    files = draw_learned(folder, experiment, outcomes)
    names = ["progress", "settings", "parallel", "importance", "samples", "families"]
    assert files == [folder.path / "learned" / f"{name}.png" for name in names]
    for file in files:
        picture = np.asarray(Image.open(file).convert("RGB"))
        height, width, _ = picture.shape
        assert 300 <= height <= 3000, file
        assert 500 <= width <= 2500, file
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, f"{file} is blank"
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (border == 255).all(), f"something in {file} runs over its edge"


def test_all_pictures_are_drawn_of_a_measure_that_may_be_zero_and_below(two_families):
    folder, experiment, outcomes = two_families
    experiment = experiment.override("search.metric=my_pkg:my_score", "search.mode=max")
    outcomes = [replace(one, value=None if one.value is None else 50.0 - one.value) for one in outcomes]
    for one in outcomes:
        file = folder.trial(one.trial).path / "metrics.jsonl"
        file.write_text(file.read_text().replace('"fid": ', '"my_score": -'))
    files = draw_learned(folder, experiment, outcomes)
    assert [file.stem for file in files] == ["progress", "settings", "parallel", "importance", "samples", "families"]


def test_what_there_is_no_more_is_deleted(two_families):
    folder, experiment, outcomes = two_families
    draw_learned(folder, experiment, outcomes)
    few = draw_learned(folder, experiment, outcomes[:5])
    assert sorted((folder.path / "learned").iterdir()) == sorted(few)
    assert "importance" not in {path.stem for path in few}
    assert draw_learned(folder, experiment, []) == []
    assert list((folder.path / "learned").iterdir()) == []


def test_the_contact_sheet_is_in_order_of_fid_failed_ones_last(tmp_path):
    folder = RunFolder(tmp_path / "hunt")
    shades = {"good": (20.0, "completed", 60), "bad": (90.0, "stopped", 120), "lost": (1.0, "failed", 180)}
    for trial, (fid, _, shade) in shades.items():
        write_trial(folder, trial, [row(20, 100, fid)], {20: 1.0}, shade)
    outcomes = [outcome(trial, state, fid, lr=1e-4) for trial, (fid, state, _) in shades.items()]
    pixels = np.asarray(draw_sheet(folder, outcomes[::-1], (16, 16), FID).convert("L"))
    shown = [shade for column in pixels[150] for shade in (60, 120, 180) if column == shade]
    assert [shown.count(shade) for shade in (60, 120, 180)] == [202, 202, 202]
    assert shown == sorted(shown)


def test_where_high_values_are_good_the_contact_sheet_begins_with_the_highest(tmp_path):
    folder = RunFolder(tmp_path / "hunt")
    shades = {"low": (20.0, "completed", 120), "high": (90.0, "stopped", 60), "lost": (99.0, "failed", 180)}
    for trial, (value, _, shade) in shades.items():
        write_trial(folder, trial, [row(20, 100, value)], {20: 1.0}, shade)
    outcomes = [outcome(trial, state, value, lr=1e-4) for trial, (value, state, _) in shades.items()]
    pixels = np.asarray(draw_sheet(folder, outcomes, (16, 16), HIGH).convert("L"))
    shown = [shade for column in pixels[150] for shade in (60, 120, 180) if column == shade]
    assert shown == sorted(shown)


def test_samples_on_a_contact_sheet_keep_their_shape(tmp_path):
    folder = RunFolder(tmp_path / "hunt")
    write_trial(folder, "tall", [row(20, 100, 5.0)], {20: 1.0}, 60)
    Image.new("RGB", (2 + 8 * 66, 2 + 8 * 130), (0, 200, 0)).save(folder.trial("tall").pictures()[-1])
    pixels = np.asarray(draw_sheet(folder, [outcome("tall", "completed", 5.0)], (128, 64), FID))
    rows, columns = np.nonzero((pixels == (0, 200, 0)).all(axis=2))
    assert np.ptp(rows) + 1 == 202
    assert np.ptp(columns) + 1 == pytest.approx(202 * (2 + 4 * 66) / (2 + 4 * 130), abs=1)


@pytest.mark.parametrize(("trials", "columns", "rows"), [(3, 3, 1), (8, 8, 1), (9, 5, 2), (20, 7, 3)])
def test_the_rows_of_a_contact_sheet_are_about_as_full_as_each_other(tmp_path, trials, columns, rows):
    folder = RunFolder(tmp_path / "hunt")
    outcomes = [outcome(f"t{number}", "completed", 9.0 + number) for number in range(trials)]
    for number in range(trials):
        write_trial(folder, f"t{number}", [row(20, 100, 9.0 + number)], {20: 1.0}, 100)
    pixels = np.asarray(draw_sheet(folder, outcomes, (16, 16), FID).convert("L"))
    wide = (pixels[150] == 100).sum() / 202
    tall = (pixels[:, 100] == 100).sum() / 202
    assert (wide, tall) == (columns, rows)


def test_a_scatter_of_points_is_shown_whole(tmp_path):
    folder = RunFolder(tmp_path / "hunt")
    write_trial(folder, "a", [row(20, 100, 9.0)], {20: 1.0})
    left = Image.new("RGB", (512, 512), "white")
    left.paste((0, 0, 0), (256, 0, 512, 512))
    left.save(folder.trial("a").picture(20))
    sheet = np.asarray(draw_sheet(folder, [outcome("a", "completed", 9.0)], None, FID).convert("L"))
    assert (sheet[150] < 50).sum() == pytest.approx(101, abs=3)


def test_a_picture_that_cannot_be_drawn_costs_a_line_not_the_search(two_families):
    folder, experiment, outcomes = two_families
    (folder.trial(outcomes[0].trial).path / "metrics.jsonl").write_text('{"step": 40, "fid": 3.0}\n')
    with pytest.raises(KeyError):
        draw_learned(folder, experiment, outcomes)
    screen = io.StringIO()
    assert try_to_draw(Console(file=screen, width=200), folder, experiment, outcomes) == []
    assert screen.getvalue() == "no pictures of what was learned: KeyError: 'images_seen'\n"


# Names of families


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["wgan", "wgan_gp"], ["wgan", "wgan_gp"]),
        (["one.gans:MyGan", "wgan"], ["MyGan", "wgan"]),
        (["one.gans:Gan", "two.gans:Gan", "three:Other"], ["one.gans.Gan", "two.gans.Gan", "Other"]),
        (["a.gans:Gan", "a.more:Gan"], ["gans.Gan", "more.Gan"]),
        (["b:wgan", "wgan"], ["b.wgan", "wgan"]),
        (["a:Outer.Gan", "a:Gan"], ["Outer.Gan", "a.Gan"]),
    ],
)
def test_tables_and_pictures_call_families_by_short_names_that_differ(names, shown):
    assert list(short_names(names).values()) == shown


def texts(picture: Figure) -> str:
    return " ".join(text.get_text() for text in picture.findobj(Text))


def test_families_of_other_packages_have_short_names_in_pictures_and_whole_ones_in_files(tmp_path, monkeypatch):
    source = Path(modern.__file__).read_text()
    for package in ("here", "there"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "gans.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    names = ["here.gans:Modern", "there.gans:Modern", "wgan"]
    experiment = searched(tmp_path, "search.compare=true", "search.trials=48", families=names)
    outcomes = drawn_at_random(experiment, 0, 48, {"lr": 4.0})
    folder = RunFolder(experiment.folder)
    for number, one in enumerate(outcomes):
        write_trial(folder, one.trial, [row(one.step, one.step * 64, one.value)], {one.step: 100.0 + number})
    outcomes = [replace(one, checkpoint=str(folder.trial(one.trial).checkpoint(one.step))) for one in outcomes]
    drawn = pictures(folder, experiment, outcomes)
    for name in ("progress", "settings", "parallel", "importance", "families"):
        assert "here.gans.Modern" in texts(drawn[name]), name
        assert "there.gans.Modern" in texts(drawn[name]), name
        assert "gans:Modern" not in texts(drawn[name]), name
    result = SearchResult(FID, outcomes, [])
    console = Console(width=200, file=io.StringIO())
    files = write_report(experiment, folder, result, console)
    print_report(experiment, folder, result, console)
    said = console.file.getvalue()
    assert " here.gans.Modern " in said
    assert "gans:Modern" not in said
    assert {re.sub(r"[\w.-]", "", file.name) for file in files} == {""}
    rows = (folder.path / "trials.csv").read_text() + (folder.path / "families.csv").read_text()
    assert "here.gans:Modern" in rows
    assert "here.gans.Modern" not in rows
    assert "| here.gans.Modern |" in (folder.path / "families.md").read_text()
    for package in ("here", "there"):
        del sys.modules[f"{package}.gans"], sys.modules[package]
