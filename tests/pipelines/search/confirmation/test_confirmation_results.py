"""Which settings are confirmed and which of them wins, with invented numbers and no cluster."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from gan_core.measures import FID, Objective
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.search._best import SearchResult
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.results import ConfirmedTrial, fresh_seeds, gather_results, seed_runs, winner_of
from pipelines.search.report._tables import print_tables, write_tables
from tests.pipelines.small_runs import table


def trial(name: str, fid: float | None, family: str = "wgan", lr: float | None = None, state="completed") -> Outcome:
    settings = {"name": family, "lr": 1e-4 * ord(name[0]) if lr is None else lr}
    return Outcome(name, state, settings, 20, 20, fid, 10.0, f"trials/{name}/checkpoints/step-000020")


def experiment(*words: str, families=("wgan",)):
    return search_experiment(families, ["name=x", *words])


def confirmed_of(
    folder, fids: dict[str, dict[int, list[float] | None]], objective: Objective = FID
) -> list[ConfirmedTrial]:
    """Writes the runs of each setting into a folder. `fids`: the values of each seed, None for a lost one."""
    seeds = list(next(iter(fids.values())))
    repeats = [
        dataclasses.replace(one, seed=seed)
        for name in fids
        for one in seed_runs(experiment("search.confirm=1", "search.confirm_seeds=1"), [trial(name, 1.0)], {})
        for seed in seeds
    ]
    outcomes = []
    for name, by_seed in fids.items():
        for seed, run in by_seed.items():
            path = folder.trial(f"{name}-{seed}").path
            path.mkdir(parents=True)
            lines = [json.dumps({"step": 10 * (n + 1), objective.name: fid}) for n, fid in enumerate(run or [7.0])]
            (path / "metrics.jsonl").write_text("\n".join(lines) + "\n" + '{"step": 99, "fi')
            now = trial(f"{name}-{seed}", (run or [7.0])[-1], state="completed" if run else "failed")
            outcomes.append(now)
    return gather_results(repeats, outcomes, folder, objective)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


def test_seeds_are_fresh_and_a_longer_list_begins_with_the_shorter_one():
    for seed in range(300):
        some, more = fresh_seeds(seed, 3), fresh_seeds(seed, 50)
        assert more[:3] == some == fresh_seeds(seed, 3)
        assert len(set(more)) == 50
        assert seed not in more
    for own in (2982, 119):  # among their first hundred draws are the seed itself and one number twice
        assert own not in fresh_seeds(own, 100)
        assert len(set(fresh_seeds(own, 100))) == 100
    assert fresh_seeds(0, 3) != fresh_seeds(1, 3)


def test_the_best_settings_are_chosen_once_each_and_never_a_failed_one():
    found = [
        trial("a", 3.0),
        trial("b", 1.0, state="failed"),
        trial("c", 2.0, state="stopped"),
        trial("d", 2.5, lr=0.5),
        trial("e", 2.6, lr=0.5),
        trial("f", None),
    ]
    asked = experiment("search.confirm=3", "search.confirm_seeds=2")
    repeats = seed_runs(asked, found, {})
    assert [(one.trial.trial, one.seed) for one in repeats] == [
        (name, seed) for name in ("c", "d", "a") for seed in fresh_seeds(0, 2)
    ]
    many = seed_runs(asked.override("search.confirm=1000"), found, {})
    assert len(many) == 6, "as many as there are"
    assert seed_runs(asked.override("search.confirm=0"), found, {}) == []
    assert seed_runs(asked, [trial("f", None)], {}) == []


def test_families_that_are_compared_are_confirmed_each():
    found = [trial("a", 1.0), trial("b", 2.0), trial("c", 3.0), trial("d", 9.0, "vae"), trial("e", 8.0, "vae")]
    words = ["search.confirm=2", "search.confirm_seeds=1"]
    together = seed_runs(experiment(*words, families=("wgan", "vae")), found, {})
    assert [one.trial.trial for one in together] == ["a", "b"]
    apart = seed_runs(experiment(*words, "search.compare=true", families=("wgan", "vae")), found, {})
    assert [one.trial.trial for one in apart] == ["a", "b", "e", "d"]


def test_what_was_begun_stays_with_all_seeds():
    found = [trial("a", 1.0), trial("b", 2.0), trial("c", 3.0)]
    asked = experiment("search.confirm=1", "search.confirm_seeds=2")
    begun = {"c": found[2].settings, "gone": {"name": "wgan", "lr": 1.0}}
    assert [one.trial.trial for one in seed_runs(asked, found, begun)] == ["a", "a", "c", "c"]


def test_what_was_played_is_said_of_the_settings_it_was_played_with():
    """A trial of a population was confirmed, then resumed with a larger budget, and now has other settings."""
    begun = {"a": {"name": "wgan", "lr": 1e-3}}
    found = seed_runs(experiment("search.confirm=1", "search.confirm_seeds=1"), [trial("a", 1.0, lr=5e-3)], begun)
    assert [(one.trial.trial, one.trial.settings["lr"]) for one in found] == [("a", 1e-3)]


def test_the_best_mean_wins_not_the_best_run(folder):
    confirmed = confirmed_of(
        folder, {"lucky": {1: [9.0, 1.0], 2: [9.0, 30.0], 3: [2.0, 20.0]}, "steady": {1: [9.0], 2: [11.0], 3: [10.5]}}
    )
    assert [one.trial.trial for one in confirmed] == ["steady", "lucky"]
    winner = winner_of(confirmed)
    assert winner is confirmed[0]
    assert winner.mean == pytest.approx(np.mean([9, 11, 10.5]), rel=1e-15)
    assert winner.sd == pytest.approx(np.std([9, 11, 10.5], ddof=1), rel=1e-15)
    assert winner.best_run.seed == 1
    lucky = confirmed[1]
    assert lucky.values == [1.0, 30.0, 20.0]
    assert lucky.best_mean == pytest.approx((1.0 + 9.0 + 2.0) / 3)


def test_of_equal_means_the_one_with_the_lowest_run_wins_and_of_equal_runs_the_first(folder):
    confirmed = confirmed_of(folder, {"a": {7: [40.0], 2: [42.0], 3: [44.0]}, "b": {7: [36.5], 2: [36.5], 3: [53.0]}})
    assert [one.trial.trial for one in confirmed] == ["b", "a"]
    best = SearchResult(FID, [trial("a", 3.0), trial("b", 4.0)], confirmed).best
    assert (best.trial, best.value, best.run_value, best.seed) == ("b", 42.0, 36.5, 2)


def test_of_a_measure_whose_high_values_are_good_the_highest_mean_wins(folder):
    high = Objective("my_score", "max")
    runs = {"lucky": {1: [0.1, 0.9], 2: [0.3, 0.1]}, "steady": {1: [0.7, 0.6], 2: [0.7]}, "torn": {1: [5.0], 2: None}}
    confirmed = confirmed_of(folder, runs, high)
    assert [one.trial.trial for one in confirmed] == ["steady", "lucky", "torn"], "what lost a seed is last"
    winner = winner_of(confirmed)
    assert (winner.mean, winner.best_run.seed, winner.best_run.value) == (pytest.approx(0.65), 2, 0.7)
    assert (winner.lowest, winner.highest, winner.best_mean) == (0.6, 0.7, 0.7)
    assert winner.summary == "my_score 0.650 ± 0.071 over 2 seeds"
    best = SearchResult(high, [trial("a", 3.0), trial("b", 4.0)], []).best
    assert (best.trial, best.value) == ("b", 4.0)


def test_the_highest_values_of_such_a_measure_are_chosen_to_be_confirmed():
    asked = experiment("search.metric=precision", "search.confirm=2", "search.confirm_seeds=1")
    found = [trial("a", 0.1), trial("b", 0.9, state="failed"), trial("c", 0.8), trial("d", 0.5)]
    assert [one.trial.trial for one in seed_runs(asked, found, {})] == ["c", "d"]


def test_a_setting_that_lost_a_seed_comes_after_those_that_lost_none(folder):
    confirmed = confirmed_of(
        folder, {"torn": {1: [1.0], 2: None}, "sound": {1: [50.0], 2: [60.0]}, "gone": {1: None, 2: None}}
    )
    assert [(one.trial.trial, one.lost) for one in confirmed] == [("sound", []), ("torn", [2]), ("gone", [1, 2])]
    assert [one.mean for one in confirmed] == [55.0, 1.0, None]
    assert confirmed[1].sd is None
    assert confirmed[1].best_mean == 1.0, "a lost run's FIDs count nowhere"


def test_where_all_lost_a_seed_the_best_of_the_rest_wins_and_where_all_is_lost_none(folder, tmp_path):
    torn = confirmed_of(folder, {"a": {1: [5.0], 2: None}, "b": {1: None, 2: [4.0]}})
    assert winner_of(torn).trial.trial == "b"
    gone = confirmed_of(RunFolder(tmp_path / "gone"), {"a": {1: None}})
    assert winner_of(gone) is None
    best = SearchResult(FID, [trial("a", 3.0)], gone).best
    assert (best.trial, best.value, best.confirmed) == ("a", 3.0, None)


def test_a_setting_whose_seeds_have_not_all_ended_does_not_win_yet(folder):
    (one,) = confirmed_of(folder, {"a": {1: [5.0], 2: [6.0]}})
    cut = dataclasses.replace(one.runs[1], state="interrupted", value=None)
    begun = dataclasses.replace(one, runs=(one.runs[0], cut))
    assert winner_of([begun]) is None
    assert begun.lost == [], "it may still come to its end"


def test_no_setting_wins_before_all_are_confirmed(folder):
    """Otherwise the first one to end would win in an interrupted search."""
    good, bad = confirmed_of(folder, {"a": {1: [5.0]}, "b": {1: [6.0]}})
    saved = dataclasses.replace(bad, runs=tuple(dataclasses.replace(run, checkpoint="x") for run in bad.runs))
    waiting = dataclasses.replace(good, runs=(dataclasses.replace(good.runs[0], state="waiting", value=None),))
    found = SearchResult(FID, [trial("a", 1.0), trial("b", 2.0)], [saved, waiting])
    assert found.best.trial == "a", "the search's own best"
    assert found.best.confirmed is None


def test_a_search_that_is_cut_short_before_it_confirms_anew_keeps_its_winner(folder):
    """It was resumed with more trials, and one of them has a lower FID that is not confirmed."""
    (one,) = confirmed_of(folder, {"a": {1: [5.0], 2: [6.0]}})
    saved = [folder.path / name / "checkpoints" / "step-000020" for name in ("old", "new")]
    for path in saved:
        RunFolder(path.parent.parent).picture(20).parent.mkdir(parents=True)
        RunFolder(path.parent.parent).picture(20).write_bytes(str(path).encode())
    runs = tuple(dataclasses.replace(run, step=20, checkpoint=str(saved[0])) for run in one.runs)
    winner = dataclasses.replace(one, runs=runs)
    write_tables(folder, experiment(), SearchResult(FID, [trial("a", 3.0)], [winner]))
    kept = {path.name: path.read_bytes() for path in folder.path.glob("best.*")}
    assert len(kept) == 3
    lower = dataclasses.replace(trial("b", 1.0), checkpoint=str(saved[1]))
    written = write_tables(folder, experiment(), SearchResult(FID, [trial("a", 3.0), lower], []))
    assert [path.name for path in written] == ["trials.csv"]
    assert {path.name: path.read_bytes() for path in folder.path.glob("best.*")} == kept


def test_the_tables_have_fid_next_to_another_measure(folder):
    high = Objective("my_score", "max")
    confirmed = confirmed_of(folder, {"a": {1: [0.25], 2: [0.75]}}, high)
    runs = tuple(dataclasses.replace(run, fid=40.0 + run.seed) for run in confirmed[0].runs)
    saved = folder.path / "a-2" / "checkpoints" / "step-000020"
    RunFolder(saved.parent.parent).picture(20).parent.mkdir(parents=True)
    RunFolder(saved.parent.parent).picture(20).write_bytes(b"")
    runs = tuple(dataclasses.replace(run, step=20, checkpoint=str(saved)) for run in runs)
    outcomes = [dataclasses.replace(trial("a", 0.5), fid=39.5), dataclasses.replace(trial("b", 0.9), fid=90.5)]
    result = SearchResult(high, outcomes, [dataclasses.replace(confirmed[0], trial=outcomes[0], runs=runs)])
    own = experiment().override("search.metric=my_pkg:my_score", "search.mode=max")
    write_tables(folder, own, result)
    (best, other) = table(folder.path)
    assert [(row["trial"], row["my_score"], row["fid"]) for row in (best, other)] == [
        ("b", "0.9", "90.5"),
        ("a", "0.5", "39.5"),
    ]
    (row,) = table(folder.path, "confirmed")
    assert (row["mean"], row["search_my_score"], row["my_score_2"], row["best_my_score_2"], row["fid_2"]) == (
        *("0.5", "0.5", "0.75", "0.75", "42.0"),
    )
    about = json.loads(folder.best.with_suffix(".json").read_bytes())
    assert (about["my_score"], about["seed_my_score"], about["run_fid"], about["seed"]) == (0.5, 0.75, 42.0, 2)
    assert "fid" not in about
    assert "my_pkg:my_score" in folder.best.read_text(), "it is measured when the settings are trained again"
    console = Console(file=io.StringIO(), width=200)
    print_tables(console, folder, result, experiment())
    said = console.file.getvalue()
    assert "step  my_score   FID" in said
    assert "my_score mean ± sd" in said
    assert "my_score 0.750; its FID 42.0)" in said or "my_score 0.75; its FID 42.0)" in said


def test_the_table_says_what_was_lost_and_what_the_search_had_found(folder):
    confirmed = confirmed_of(folder, {"torn": {1: [1.0], 2: None}, "sound": {1: [50.0], 2: [60.0]}})
    console = Console(file=io.StringIO(), width=200)
    searched = {"torn": trial("torn", 0.5), "sound": trial("sound", 40.25)}
    outcomes = list(searched.values())
    confirmed = [dataclasses.replace(one, trial=searched[one.trial.trial]) for one in confirmed]
    print_tables(console, folder, SearchResult(FID, outcomes, confirmed), experiment())
    said = console.file.getvalue()
    (sound,) = [line for line in said.splitlines() if line.startswith("sound") and "±" in line]
    for figure in ("55.0 ± 7.1", "50.0-60.0", "40.2"):
        assert figure in sound
    (torn,) = [line for line in said.splitlines() if line.startswith("torn") and "lost" in line]
    assert "1 of 2 lost: ranked last" in torn
