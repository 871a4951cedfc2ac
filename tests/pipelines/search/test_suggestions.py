"""The trials that Ray Tune gets are the same after a driver was killed. Tune's own objects are used, without a
cluster."""

import json
from pathlib import Path

import pytest
from ray.tune.experiment import Experiment
from ray.tune.schedulers import TrialScheduler

from gan_core.family import family_class
from gan_core.measures import FID
from pipelines.runs._disk_full import FullDiskError
from pipelines.runs._folder import RunFolder
from pipelines.runs._lineage import Pointer
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import BUDGET, Journal
from pipelines.search._outcome import Outcome
from pipelines.search.confirmation.play import SeedRunSearcher
from pipelines.search.confirmation.results import SeedRun
from pipelines.search.trials import suggestions
from pipelines.search.trials._trainable import FAILED, FULL_DISK
from pipelines.search.trials.suggestions import Suggestions, remind
from tests.pipelines.search.test_journal import killed
from tune_spaces.domains import Choice, SearchedFields
from tune_spaces.engines import scheduler, searcher


def never(config):
    raise AssertionError("never run")


class Search:
    """The driver's side of a search, without trials that run."""

    def __init__(
        self, folder: Path, sampler: str = "random", wanted: int = 8, concurrent: int = 3, spaces=None, **budget
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.journal = Journal(folder / "journal.jsonl")
        self.budget = SearchBudget(self.journal, **budget)
        spaces = spaces or {name: SearchedFields().space(family_class(name)()) for name in ("wgan", "wgan_gp")}
        drawing = searcher(sampler, spaces, seed=3)
        names = [f"t{number:04d}" for number in range(1, wanted + 1)]
        self.trials = Suggestions(self.journal, drawing, self.budget, RunFolder(folder), names, concurrent, FID)
        self.trials.add_configurations([Experiment("of-few", never)])

    def next(self):
        return self.trials.next_trial()

    def evaluate(self, trial, step: int) -> None:
        self.trials.on_trial_result(trial.trial_id, row(trial, step))

    def end(self, trial, step: int = 30, **more) -> None:
        self.trials.on_trial_complete(trial.trial_id, {**row(trial, step), **more})


def row(trial, step: int) -> dict:
    """The result of an evaluation. Each trial has different FIDs."""
    fid = 100.0 * trial.config["settings"]["lr"] + 1.0 / step
    return {"step": step, "fid": fid, "last_step": 30, "images_seen": 16 * step}


def play(search: Search, moves: int) -> None:
    """A fixed schedule: three trials at once take turns, each evaluated at 10 and 20 and ended at 30."""
    for _ in range(moves):
        while search.next():
            pass
        for trial in list(search.trials._live.values()):
            step = (search.journal.records[trial.trial_id].result or {"step": 0})["step"] + 10
            search.end(trial) if step == 30 else search.evaluate(trial, step)


def settings(search: Search) -> dict[str, dict]:
    return {name: record.config["settings"] for name, record in search.journal.records.items()}


def test_trials_have_names_in_order_and_no_more_run_than_may(tmp_path):
    search = Search(tmp_path, wanted=4)
    first, second, third = search.next(), search.next(), search.next()
    assert [trial.trial_id for trial in (first, second, third)] == ["t0001", "t0002", "t0003"]
    assert search.next() is None
    assert not search.trials.is_finished()
    search.end(second)
    assert search.next().trial_id == "t0004"
    assert search.trials.is_finished()


def test_a_paused_trial_takes_no_room(tmp_path):
    search = Search(tmp_path, concurrent=1)
    search.next().status = "PAUSED"
    assert search.next().trial_id == "t0002"
    assert search.next() is None


def test_a_full_disk_ends_the_search_and_none_of_its_trials(tmp_path):
    search = Search(tmp_path)
    trial = search.next()
    search.evaluate(trial, 10)
    with pytest.raises(FullDiskError, match="no space"):
        search.end(trial, 10, **{FULL_DISK: "no space"})
    with pytest.raises(FullDiskError, match="no space"):
        search.journal.tick()
    killed(search.journal)
    again = Search(tmp_path)
    assert again.journal.records["t0001"].state == "waiting"
    assert again.next().trial_id == "t0001"


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp"])
@pytest.mark.parametrize("moves", [1, 2, 3, 5, 7])
def test_after_the_drivers_death_the_same_trials_follow(tmp_path, sampler, moves):
    """`play` depends only on the journal, so the second driver makes the moves that the first would have made."""
    whole = Search(tmp_path / "whole", sampler)
    play(whole, 9)
    cut = Search(tmp_path / "cut", sampler)
    play(cut, moves)
    killed(cut.journal)
    after = Search(tmp_path / "cut", sampler)
    play(after, 9 - moves)
    assert settings(after) == settings(whole)
    assert len(settings(whole)) == 8
    assert {record.state for record in after.journal.records.values()} == {"completed"}


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp"])
@pytest.mark.parametrize("moves", [1, 2, 4])
def test_after_the_drivers_death_nothing_is_played_twice(tmp_path, sampler, moves):
    spaces = {"wgan": {"lr": Choice((1e-4, 2e-4, 3e-4, 4e-4)), "n_critic": Choice((1, 5))}}
    whole, cut = (Search(tmp_path / name, sampler, spaces=spaces) for name in ("whole", "cut"))
    play(whole, 9)
    play(cut, moves)
    killed(cut.journal)
    after = Search(tmp_path / "cut", sampler, spaces=spaces)
    play(after, 9 - moves)
    assert settings(after) == settings(whole)
    assert len({(one["lr"], one["n_critic"]) for one in settings(after).values()}) == 8


def test_what_was_running_goes_on_first_and_from_where_it_was(tmp_path):
    search = Search(tmp_path)
    first, second, third = search.next(), search.next(), search.next()
    search.end(second)
    search.evaluate(third, 20)
    killed(search.journal)
    after = Search(tmp_path)
    again = [after.next(), after.next(), after.next()]
    assert [trial.trial_id for trial in again] == ["t0001", "t0003", "t0004"]
    assert [trial.config for trial in again[:2]] == [first.config, third.config]
    assert again[0].checkpoint is None
    assert Pointer.read(Path(again[1].checkpoint.path)) == Pointer("t0003", 20)


def test_a_finished_search_can_be_extended(tmp_path):
    search = Search(tmp_path, wanted=3)
    play(search, 4)
    assert search.trials.is_finished()
    killed(search.journal)
    same = Search(tmp_path, wanted=3)
    assert same.trials.is_finished()
    assert same.next() is None
    killed(same.journal)
    longer = Search(tmp_path, wanted=5)
    play(longer, 4)
    whole = Search(tmp_path / "whole", wanted=5)
    play(whole, 8)
    assert settings(longer) == settings(whole)


def test_a_list_that_has_grown_is_played_where_it_was_left(tmp_path):
    """A confirmation does this; its names are not numbered."""

    def listed(*names: str) -> tuple[Journal, Suggestions]:
        repeats = [
            SeedRun(Outcome(trial, "", {"name": "wgan", "lr": 1.0}, 0, 1, None, None, None), int(seed))
            for trial, seed in (name.split("-") for name in names)
        ]
        journal = Journal(tmp_path / "journal.jsonl")
        trials = Suggestions(
            journal, SeedRunSearcher(repeats), SearchBudget(journal), RunFolder(tmp_path), names, 9, FID
        )
        trials.add_configurations([Experiment("of-few", never)])
        return journal, trials

    journal, trials = listed("a-7", "a-8", "a-9")
    first, _ = trials.next_trial(), trials.next_trial()
    assert first.config == {"settings": {"name": "wgan", "lr": 1.0}, "seed": 7}
    trials.on_trial_complete("a-7", row(first, 30))
    killed(journal)
    journal, trials = listed("b-7", "b-8", "a-7", "a-8", "a-9")
    found = [trial.trial_id for trial in iter(trials.next_trial, None)]
    assert found == ["a-8", "b-7", "b-8", "a-9"]
    assert trials.is_finished()
    assert list(journal.records) == ["a-7", "a-8", "b-7", "b-8", "a-9"]


def test_how_a_trial_ended(tmp_path):
    search = Search(tmp_path, wanted=6, concurrent=6)
    done, early, diverged, collapsed, spent, waiting = (search.next() for _ in range(6))
    for trial in (early, diverged, collapsed, waiting):
        search.evaluate(trial, 10)
    search.end(done)
    search.end(early, 20)
    search.end(diverged, 10, **{"fid": float("inf"), FAILED: "diverged: loss is nan"})
    search.end(collapsed, 20, **{FAILED: "collapsed: variety 0"})
    search.budget.stopped.add(spent.trial_id)
    search.end(spent, 20)
    search.trials.on_trial_complete(waiting.trial_id)  # a scheduler stops a paused trial
    records = search.journal.records
    assert [(one.state, one.reason) for one in records.values()] == [
        ("completed", ""),
        ("stopped", "early"),
        ("failed", "diverged: loss is nan"),
        ("failed", "collapsed: variety 0"),
        ("stopped", BUDGET),
        ("stopped", "early"),
    ]
    assert [one.result["step"] for one in records.values()] == [30, 20, 10, 20, 20, 10]
    assert records["t0003"].result["fid"] == row(diverged, 10)["fid"], "the last that there was"


def test_an_error_of_a_worker_is_told_by_its_last_line_and_the_file_with_the_rest(tmp_path, monkeypatch):
    search = Search(tmp_path, "tpe", wanted=2, concurrent=2)
    for trial, said in (
        (search.next(), "ray::Trial.train()\n  frames\nOSError: no  such image\n"),
        (search.next(), ""),
    ):
        errors = tmp_path / "error.txt"
        errors.write_text(said)
        monkeypatch.setattr(type(trial), "error_file", str(errors) if said else None)
        search.trials.on_trial_complete(trial.trial_id, error=True)
    reasons = [record.reason for record in search.journal.records.values()]
    assert reasons == ["OSError: no such image; see ray.log", "lost; see ray.log"]


def test_what_was_lost_goes_on_with_the_search_and_no_model_learns_from_it(tmp_path, monkeypatch):
    """Its process died repeatedly, which says nothing about its settings."""
    search = Search(tmp_path, "tpe", wanted=2, concurrent=2)
    lost, done = search.next(), search.next()
    monkeypatch.setattr(suggestions, "_error_of", lambda trial: "its process died")  # Tune has no folder for it here
    search.evaluate(lost, 10)
    search.trials.on_trial_complete(lost.trial_id, error=True)
    search.end(done)
    assert search.journal.records[lost.trial_id].lost
    assert list(search.trials._searcher._live) == [lost.trial_id], "still open to the sampler"
    killed(search.journal)
    again = Search(tmp_path, "tpe", wanted=2, concurrent=2)
    assert again.next().trial_id == lost.trial_id
    assert again.next() is None
    again.end(again.trials._live[lost.trial_id])
    record = again.journal.records[lost.trial_id]
    assert (record.state, record.lost) == ("completed", False)


def test_a_sampler_that_draws_otherwise_now_learns_nothing_that_was_not_played(tmp_path):
    """For example, another version of the sampler's package."""
    search = Search(tmp_path, "tpe", wanted=3, concurrent=1)
    for _ in range(2):
        search.end(search.next())
    killed(search.journal)
    file = tmp_path / "journal.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    drawn = next(line for line in lines if line.get("trial") == "t0002" and line["event"] == "trial")
    drawn["config"]["settings"]["lr"] *= 1.01
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = Search(tmp_path, "tpe", wanted=3, concurrent=1)
    assert again.journal.records["t0002"].config == drawn["config"], "what was played stays"
    assert list(again.trials._searcher._live) == ["t0002"], "told of t0001 alone"
    assert again.next().trial_id == "t0003"


def test_what_the_budget_stopped_goes_on_when_there_is_more(tmp_path):
    search = Search(tmp_path, wanted=3, images=16 * 40)
    first, second = search.next(), search.next()
    search.evaluate(first, 20)
    assert not search.trials.is_finished()
    search.evaluate(second, 20)
    assert search.trials.is_finished()
    assert search.next() is None
    search.budget.stopped.add(first.trial_id)
    search.end(first, 25)
    search.end(second, 30)
    killed(search.journal)
    same = Search(tmp_path, wanted=3, images=16 * 40)
    assert same.trials.is_finished()
    assert same.next() is None
    killed(same.journal)
    more = Search(tmp_path, wanted=3, images=16 * 400)
    assert [more.next().trial_id, more.next().trial_id, more.next()] == ["t0001", "t0003", None]


def test_the_sampler_keeps_away_from_what_fails(tmp_path):
    """Half of a space fails. (Optuna's model ignores trials with state FAIL.)"""
    tried = []
    search = Search(tmp_path, "tpe", wanted=60, concurrent=1)
    while trial := search.next():
        tried.append(trial.config["settings"]["lr"] > 3e-4)
        bad = {"fid": float("inf"), FAILED: "diverged: loss is nan"} if tried[-1] else {"fid": 5.0}
        search.end(trial, **bad)
    assert sum(tried[20:]) <= 12, "of 40; at random it would be 20"


def test_asha_remembers_the_rungs_of_an_earlier_driver(tmp_path):
    search = Search(tmp_path, wanted=4, concurrent=4)
    for fid in (1.0, 2.0, 3.0):
        trial = search.next()
        search.end(trial, 10, fid=fid)
    new, worst = search.next(), {"step": 10, "fid": 9.0}
    killed(search.journal)
    records = Journal(tmp_path / "journal.jsonl").records
    forgetful, asha = (scheduler("asha", 30, 10, history=lambda trial: [records[trial].result]) for _ in range(2))
    remind(asha, records.values())
    for one in (forgetful, asha):
        one.on_trial_add(None, new)
    assert forgetful.on_trial_result(None, new, worst) == TrialScheduler.CONTINUE
    assert asha.on_trial_result(None, new, worst) == TrialScheduler.STOP


@pytest.mark.parametrize("rule", ["asha", "hyperband", "median", "none"])
@pytest.mark.parametrize("compare", [True, False])
def test_every_rule_can_be_reminded(tmp_path, rule, compare):
    search = Search(tmp_path, wanted=2, concurrent=2)
    search.end(search.next())
    new = search.next()
    spaces = {"wgan": {}, "wgan_gp": {}}
    history = [{"step": 30, "fid": 1.0}]
    made = scheduler(rule, 30, 10, spaces=spaces, compare=compare, history=lambda trial: history)
    remind(made, search.journal.records.values())
    made.on_trial_add(None, new)
    assert made.on_trial_result(None, new, {"step": 10, "fid": 1.0}) == TrialScheduler.CONTINUE
