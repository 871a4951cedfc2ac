"""The comparison of families."""

import io

import numpy as np
import pytest
from rich.console import Console

from gan_core.measures import FID, Objective
from pipelines.runs._folder import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._families import family_table
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.results import ConfirmedTrial, SeedResult
from pipelines.search.report._tables import print_families, write_families
from tests.pipelines.small_runs import table


def outcome(family: str, fid: float | None, state: str = "completed") -> Outcome:
    return Outcome(f"{family}{fid}", state, {"name": family}, 20, 20, fid, None, "x")


WGAN = [12.0, 80.0, 35.0, 400.0]
OUTCOMES = [
    *[outcome("wgan", fid) for fid in WGAN],
    outcome("wgan", 1.0, "failed"),
    outcome("gan", 30.0, "stopped"),
    outcome("vae", None, "failed"),
]


def again(family: str, *fids: float | None) -> ConfirmedTrial:
    """Confirmed settings with the final FID of each seed, None for a lost one."""
    runs = (
        SeedResult(f"x-{seed}", seed, "failed" if fid is None else "completed", 20, fid, fid, None)
        for seed, fid in enumerate(fids)
    )
    return ConfirmedTrial(outcome(family, 1.0), tuple(runs), FID)


CONFIRMED = [
    again("gan", 29.5, 31.0, 32.5),
    again("wgan", 40.0, 42.0, None),
    again("gan", 10.0, None),
    again("vae", None),
]


def test_numbers_are_those_of_numpy():
    rows = {row.family: row for row in family_table(OUTCOMES, [], FID)}
    wgan = rows["wgan"]
    assert (wgan.trials, wgan.completed, wgan.stopped, wgan.failed) == (5, 4, 0, 1)
    assert wgan.best == 12.0, "a failed trial is never the best"
    assert wgan.median == pytest.approx(np.median(WGAN))
    assert [wgan.lower_quartile, wgan.upper_quartile] == pytest.approx(np.percentile(WGAN, [25, 75]))
    assert rows["gan"].lower_quartile == rows["gan"].upper_quartile == 30.0
    assert (rows["vae"].best, rows["vae"].median, rows["vae"].upper_quartile) == (None, None, None)


def test_the_best_confirmed_mean_is_first_then_the_best_of_the_search():
    assert [row.family for row in family_table(OUTCOMES, [], FID)] == ["wgan", "gan", "vae"]
    rows = family_table(OUTCOMES, CONFIRMED, FID)
    assert [row.family for row in rows] == ["gan", "wgan", "vae"]
    assert (rows[0].mean, rows[0].sd, rows[0].lowest, rows[0].highest) == (31.0, 1.5, 29.5, 32.5)
    assert (rows[0].lost, rows[1].lost) == (0, 1), "of the first that is given, not of the lowest mean"
    assert (rows[2].mean, rows[2].lost) == (None, None)
    lucky = [again("gan", 29.5, 31.0, 32.5), again("wgan", 1.0, None, None)]
    assert [row.family for row in family_table(OUTCOMES, lucky, FID)] == ["gan", "wgan", "vae"], (
        "what lost a seed is after"
    )


def test_of_a_measure_whose_high_values_are_good_the_highest_is_first():
    rows = family_table(OUTCOMES, [], Objective("my_score", "max"))
    assert [(row.family, row.best) for row in rows] == [("wgan", 400.0), ("gan", 30.0), ("vae", None)]


def test_both_files_and_the_screen_tell_the_same(tmp_path):
    result = SearchResult(FID, OUTCOMES, CONFIRMED)
    files = write_families(RunFolder(tmp_path), result)
    assert [path.name for path in files] == ["families.csv", "families.md"]
    rows = table(tmp_path, "families")
    assert [(row["family"], row["trials"], row["best"], row["mean"]) for row in rows] == [
        ("gan", "1", "30.0", "31.0"),
        ("wgan", "5", "12.0", "41.0"),
        ("vae", "1", "", ""),
    ]
    lines = files[1].read_text().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| gan | 1 | 0 | 1 | 0 | 30.0 | 30.0 | 30.0-30.0 | 31.0 ± 1.5 (29.5-32.5) |"
    assert lines[3].endswith("| 41.0 ± 1.4 (40.0-42.0), 1 lost |")
    screen = io.StringIO()
    print_families(Console(file=screen, width=160), result)
    assert [line.split()[0] for line in screen.getvalue().splitlines()] == ["family", "gan", "wgan", "vae"]
    assert "31.0 ± 1.5 (29.5-32.5)" in screen.getvalue()
