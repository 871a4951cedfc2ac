"""Stopping rules by name: what they decide at rungs, and after a search is resumed."""

import math
import pickle
import random

import pytest
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from gan_core.measures import Objective
from gan_core.settings import SettingsError
from tune_spaces.engines import IMAGES, check_engines, scheduler

GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
RULES = ["asha", "hyperband", "median"]


def trial(name: str, **last) -> Trial:
    made = Trial("nothing", stub=True, trial_id=name)
    made.run_metadata.last_result = last
    return made


def added(of, *names: str) -> list[Trial]:
    trials = [trial(name) for name in names]
    for one in trials:
        of.on_trial_add(None, one)
    return trials


def tell(of, one: Trial, step: int, fid: float | None, controller=None) -> str:
    result = {"step": step} | ({} if fid is None else {"fid": fid})
    return of.on_trial_result(controller, one, result)


@pytest.mark.parametrize("name", RULES)
def test_a_row_without_a_fid_decides_nothing_and_a_fid_that_is_no_number_ends_a_trial(name):
    of = scheduler(name, 2000, 200)
    for one in added(of, *"abcdef"):
        assert tell(of, one, 200, None) == GO
    for bad in (math.nan, math.inf):
        assert tell(of, added(of, f"bad{bad}")[0], 200, bad) == STOP
    good = added(of, "good")[0]
    assert tell(of, good, 200, 5.0) == GO


@pytest.mark.parametrize("name", RULES)
def test_of_a_measure_whose_high_values_are_good_the_low_ones_are_stopped(name):
    """The decisions are those on the negative values of a measure whose low values are good, also after a resume."""
    draws = random.Random(3)
    curves = {f"t{n}": [draws.gauss(0, 1) + n / 9 for _ in range(4)] for n in range(27)}
    high = Objective("my_score", "max")
    decided = {}
    for objective, sign in ((high, 1.0), (Objective("my_loss", "min"), -1.0)):
        rows = {
            trial: [{"step": 200 * (n + 1), objective.name: sign * value} for n, value in enumerate(curve)]
            for trial, curve in curves.items()
        }
        of = scheduler(name, 2000, 200, seed=1, objective=objective, history=lambda trial, rows=rows: rows[trial][:3])
        of.on_trial_add(None, trial("t0", step=600))
        playing, said = added(of, *list(curves)[1:]), []
        for at in range(4):
            answers = [of.on_trial_result(None, one, rows[one.trial_id][at]) for one in playing]
            playing = [one for one, answer in zip(playing, answers, strict=True) if answer == GO]
            said += answers
        decided[objective.name] = said
    assert decided["my_score"] == decided["my_loss"]
    assert {GO, STOP} <= set(decided["my_score"])
    of = scheduler(name, 2000, 200, objective=high)
    *some, low, top = added(of, *"abcdefgh")
    for rank, one in enumerate(some):
        of.on_trial_result(None, one, {"step": 200, "my_score": float(rank)})
    worst = of.on_trial_result(None, low, {"step": 200, "my_score": -9.0})
    best = of.on_trial_result(None, top, {"step": 200, "my_score": 99.0})
    assert (worst, best) == (STOP, GO) or name == "hyperband", "its brackets may have later rungs"


@pytest.mark.parametrize("name", [*RULES, "none"])
def test_a_trial_that_fails_before_any_row_is_no_ones_problem(name):
    of = scheduler(name, 2000, 200)
    first, second = added(of, "first", "second")
    of.on_trial_error(None, first)
    of.on_trial_complete(None, second, {})
    assert tell(of, added(of, "third")[0], 200, 5.0) == GO


def test_the_median_ends_a_trial_whose_best_is_worse_than_the_median_of_the_others_means():
    of = scheduler("median", 2000, 200)
    means = {"a": (50.0, 30.0), "b": (60.0, 40.0), "c": (90.0, 70.0)}  # 40, 50, 80: median 50
    for one in added(of, *means):
        assert [tell(of, one, step, fid) for step, fid in zip((200, 400), means[one.trial_id], strict=True)] == [GO, GO]
    better, worse = added(of, "better", "worse")
    assert tell(of, worse, 100, 1e6) == GO, "no evaluation of the first rung yet"
    assert [tell(of, better, 400, 49.0), tell(of, worse, 400, 51.0)] == [GO, STOP]


def test_hyperband_gives_trials_to_brackets_as_the_paper_does():
    """First rungs 200, 600, 1800 of a budget of 5400: of n trials 3^s / (s + 1) go to bracket s = 3, 2, 1, 0."""
    of = scheduler("hyperband", 5400, 200)
    first_rungs = [
        min(rung for rung, _ in of._trial_info[one.trial_id]._rungs) for one in added(of, *map(str, range(1000)))
    ]
    found = [first_rungs.count(rung) / 1000 for rung in (200, 600, 1800, 5400)]
    weights = [27 / 4, 9 / 3, 3 / 2, 1]
    assert found == pytest.approx([weight / sum(weights) for weight in weights], abs=0.05)


def test_hyperband_is_seeded():
    def brackets(seed):
        of = scheduler("hyperband", 5400, 200, seed=seed)
        return [of._brackets.index(of._trial_info[one.trial_id]) for one in added(of, *map(str, range(30)))]

    assert brackets(1) == brackets(1)
    assert brackets(1) != brackets(2)


def test_a_trial_keeps_its_bracket_in_whatever_order_trials_come():
    def brackets(names):
        of = scheduler("hyperband", 5400, 200, seed=1)
        return {one.trial_id: of._brackets.index(of._trial_info[one.trial_id]) for one in added(of, *names)}

    names = [*map(str, range(20))]
    assert brackets(names) == brackets(names[::2] + names[1::2])
    assert len(set(brackets(names).values())) > 1


def test_trials_of_so_many_images_are_compared_at_the_same_images():
    """A critic of 5 steps a round sees in 200 rounds what one of 1 sees in 1,000."""
    asha = scheduler("asha", 64 * 2000, 64 * 200, time=IMAGES)
    slow, quick, late = added(asha, "slow", "quick", "late")

    def at(one, images, fid):
        return asha.on_trial_result(None, one, {"step": 200, "images_seen": images, "fid": fid})

    assert at(quick, 5 * 64 * 200, 10.0) == GO
    assert at(slow, 64 * 200, 90.0) == GO, "far behind it, and not compared with it"
    assert at(late, 64 * 200, 95.0) == STOP


TWO = {"quick": {}, "slow": {}}


def of_family(name: str, family: str) -> Trial:
    made = trial(name)
    made.config = {"settings": {"name": family}}
    return made


@pytest.mark.parametrize("name", ["asha", "median"])
@pytest.mark.parametrize("compare", [True, False])
def test_families_that_are_compared_have_rungs_of_their_own(name, compare):
    of = scheduler(name, 2000, 200, spaces=TWO, compare=compare)

    def told(trial_id, family, fid):
        one = of_family(trial_id, family)
        of.on_trial_add(None, one)
        return tell(of, one, 200, fid)

    for number, fid in enumerate((10.0, 20.0, 30.0, 40.0)):
        told(f"q{number}", "quick", fid)
    first = told("s0", "slow", 5000.0)
    assert first == (GO if compare else STOP), "the best of its family so far"
    for number, fid in enumerate((6000.0, 7000.0, 8000.0), start=1):
        told(f"s{number}", "slow", fid)
    assert told("late", "slow", 9000.0) == STOP
    assert told("late too", "quick", 90.0) == STOP or not compare, "worse than all but the other family"


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_rule_is_reminded_of_the_rungs_before(name):
    """A new driver has a new scheduler, which has seen no rows."""
    rows = {
        key: [{"step": 100, "loss": 1.0}, {"step": 200, "fid": fid}, {"step": 400, "fid": fid}]
        for key, fid in zip("abcd", (10.0, 20.0, 30.0, 40.0), strict=True)
    }
    fresh, again = (scheduler(name, 2000, 200, history=history) for history in (None, rows.get))
    for of, said in ((fresh, GO), (again, STOP)):
        for key in rows:
            of.on_trial_add(None, trial(key, step=400, fid=rows[key][-1]["fid"]))
        assert tell(of, added(of, "new")[0], 200, 35.0) == said
    good = added(again, "good")[0]
    assert tell(again, good, 200, 5.0) == GO


def test_what_was_logged_after_the_last_report_is_not_remembered():
    rows = {"a": [{"step": 200, "fid": 1.0}, {"step": 400, "fid": 1.0}]}
    asha = scheduler("asha", 2000, 200, history=rows.get)
    asha.on_trial_add(None, trial("a"))
    assert tell(asha, added(asha, "new")[0], 200, 35.0) == GO


@pytest.mark.parametrize("name", [*RULES, "none"])
def test_a_scheduler_is_stored_with_a_search(name):
    assert pickle.loads(cloudpickle.dumps(scheduler(name, 2000, 200)))


# What fits together


@pytest.mark.parametrize(
    ("sampler", "rule", "nearest"),
    [
        ("tpe", "pbt", "search.sampler=sobol"),
        ("gp", "pbt", "search.sampler=sobol"),
    ],
)
def test_what_does_not_fit_together_is_refused(sampler, rule, nearest):
    with pytest.raises(SettingsError, match=f"nearest: {nearest}$"):
        check_engines(sampler, rule)


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp"])
@pytest.mark.parametrize("rule", ["asha", "hyperband", "median", "none"])
def test_what_fits_together(sampler, rule):
    check_engines(sampler, rule)
