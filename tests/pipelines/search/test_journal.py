"""The journal of a search, read again after its driver was killed."""

import json
import os

import pytest

from gan_core.measures import Objective
from gan_core.settings import SettingsError
from pipelines.search._budget import SearchBudget
from pipelines.search._journal import Journal, scalars

SETTINGS = {"settings": {"name": "wgan", "lr": 0.1 + 0.2, "n_critic": 3}}


def evaluation(step: int, images: int = 0, **more) -> dict:
    return {"step": step, "fid": 10.0 / step, "images_seen": images, "last_step": 30, **more}


def killed(journal: Journal) -> None:
    """Leaves the journal as SIGKILL does: nothing more is written, and the lock is released."""
    journal._file.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def test_all_that_was_written_is_known_again(path):
    before = Journal(path)
    for name in ("t0001", "t0002", "t0003"):
        before.begin(name, SETTINGS)
    before.result("t0001", evaluation(10, 100))
    before.result("t0002", evaluation(10, 150, signs="mode_collapse"))
    before.end("t0001", "completed", result=evaluation(30, 300))
    before.closed("t0001")
    before.exploit("t0003", {"settings": {"name": "wgan", "lr": 1.0}}, {"trial": "t0001", "step": 30, "signs": ""})
    killed(before)
    with Journal(path) as after:
        assert after.records == before.records
        assert after.images == before.images == 450
    first, second, third = after.records.values()
    assert (first.state, first.closed, first.result["fid"]) == ("completed", True, 10 / 30)
    assert first.config == SETTINGS, "to the last bit"
    assert second.pointer == {"trial": "t0002", "step": 10, "signs": "mode_collapse"}
    assert (third.config["settings"]["lr"], third.pointer["trial"]) == (1.0, "t0001")
    assert not second.ended


def test_the_curve_is_of_the_best_value_of_the_objective(path):
    with Journal(path, objective=Objective("my_score", "max")) as journal:
        for trial, value, state in (
            ("a", 3, "completed"),
            ("b", 2, "stopped"),
            ("c", 9, "failed"),
            ("d", 4, "completed"),
        ):
            journal.begin(trial, SETTINGS)
            journal.end(trial, state, result=evaluation(10, my_score=value))
        found = [(one.ended, one.value, one.trial) for one in journal.curve]
    assert found == [(1, 3.0, "a"), (2, 3.0, "a"), (3, 3.0, "a"), (4, 4.0, "d")]


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_line_that_a_crash_cut_off_is_as_if_it_had_not_been(path, lost):
    with Journal(path) as journal:
        journal.begin("t0001", SETTINGS)
    whole = path.read_bytes()
    journal = Journal(path)
    journal.begin("t0002", SETTINGS)
    killed(journal)
    path.write_bytes(path.read_bytes()[:-lost])
    with Journal(path) as after:
        assert list(after.records) == ["t0001"]
        assert path.read_bytes() == whole
        after.begin("t0002", SETTINGS)
    with Journal(path) as again:
        assert list(again.records) == ["t0001", "t0002"]


def test_a_damaged_file_is_no_search(path):
    path.write_bytes(b'{"event": "clock", "seconds": 1}\nnonsense\n')
    with pytest.raises(SettingsError, match="journal.jsonl is damaged"):
        Journal(path)


def test_one_driver_at_a_time(path):
    first = Journal(path)
    with pytest.raises(SettingsError, match=f"the search '{path.parent.name}' is running"):
        Journal(path)
    killed(first)
    with Journal(path):
        pass


def test_seconds_are_counted_over_all_drivers(path):
    path.write_text(json.dumps({"event": "clock", "seconds": 3599.0}) + "\n")
    with Journal(path) as journal:
        assert 3599.0 <= journal.seconds < 3660.0
        assert not SearchBudget(journal, hours=2.0).spent()
        assert SearchBudget(journal, hours=0.99).spent()
    with Journal(path) as journal:
        assert journal.seconds > json.loads(path.read_text().splitlines()[-1])["seconds"] - 1e-9


def test_what_follows_the_search_is_not_counted(path):
    with Journal(path) as journal:
        journal.stop_clock()
        stopped = journal.seconds
        journal.begin("t0001", SETTINGS)
        assert journal.seconds == stopped
    assert json.loads(path.read_text().splitlines()[-1])["seconds"] == round(stopped, 2)


def test_images_are_those_of_all_trials(path):
    with Journal(path) as journal:
        budget, unlimited = SearchBudget(journal, images=500), SearchBudget(journal)
        for name, images in (("t0001", 200), ("t0002", 100)):
            journal.begin(name, SETTINGS)
            journal.result(name, evaluation(10, images))
        journal.result("t0001", evaluation(20, 399))
        assert not budget.spent()
        journal.end("t0001", "stopped", "early", evaluation(30, 400))
        assert budget.spent()
        assert not unlimited.spent()


def test_a_measure_may_have_the_word_time_in_its_name():
    assert scalars({"my_time_score": 1.0, "time_total_s": 2.0, "timestamp": 3}) == {"my_time_score": 1.0}


def test_of_a_result_only_what_a_search_needs_is_kept():
    result = {"fid": 3.0, "step": 5, "signs": "", "pid": 7, "time_total_s": 1.0, "config/settings/lr": 0.1}
    more = {"timers": {"sum": 9}, "loss": float("nan"), "done": True, "training_iteration": 2}
    kept = {"fid": 3.0, "step": 5, "signs": "", "training_iteration": 2}
    assert scalars(result | more) == kept


def test_a_line_that_finds_no_space_ends_the_search(path):
    """Ray Tune would take the error for a failure of the trial."""
    journal = Journal(path)
    journal.begin("t0001", SETTINGS)
    whole = path.read_bytes()
    with open("/dev/full", "ab") as full:
        os.dup2(full.fileno(), journal._file.fileno())
    for call in (lambda: journal.end("t0001", "completed"), journal.tick, lambda: journal.__exit__(None, None, None)):
        with pytest.raises(OSError, match="No space left"):
            call()
    assert (journal.records["t0001"].state, path.read_bytes()) == ("waiting", whole)
    with Journal(path) as again:
        assert again.records["t0001"].state == "waiting"
