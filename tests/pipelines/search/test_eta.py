"""Rungs are compared with Ray's, the work left with sums calculated by hand."""

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler

from pipelines.launch._search_request import search_experiment
from pipelines.search._outcome import Outcome
from pipelines.search.report._eta import REDUCTION, Ladder, trials_left, work_done
from tune_spaces import schedulers


def ladder(*assignments: str) -> Ladder:
    length = [] if any(word.startswith("budget.images") for word in assignments) else ["budget.rounds=1400"]
    return Ladder.of(search_experiment(["wgan_gp"], [*length, *assignments]))


def trial(step: int, state: str, last_step: int = 1400) -> Outcome:
    return Outcome(f"{state}{step}", state, {"name": "wgan_gp"}, step, last_step, 30.0, None, None)


@pytest.mark.parametrize(("rounds", "every"), [(1400, 200), (1800, 200), (5000, 100), (300, 300), (200, 500)])
def test_rungs_are_those_of_rays_asha(rounds, every):
    """Except for a rung at the very end, where no trial can be stopped early."""
    theirs = AsyncHyperBandScheduler(
        max_t=rounds, grace_period=min(every, rounds), reduction_factor=schedulers.REDUCTION
    )
    milestones = sorted(int(milestone) for milestone, _ in theirs._brackets[0]._rungs)
    ours = ladder(f"budget.rounds={rounds}", f"budget.eval_every={every}").rungs
    assert list(ours) == [step for step in milestones if step < rounds]
    assert REDUCTION == schedulers.REDUCTION


def test_the_rungs_of_a_searched_batch_are_those_of_the_smallest():
    words = ["budget.images=64000", "budget.eval_every=100"]
    several = ladder("space.data.batch_size=choice(32,64,128)", *words)
    assert several == ladder("data.batch_size=32", *words)
    assert (several.longest, several.by_images) == (2000, True)


@pytest.mark.parametrize("scheduler", ["none", "median", "hyperband"])
def test_other_schedulers_have_no_rungs_that_all_trials_share(scheduler):
    assert ladder(f"search.scheduler={scheduler}").rungs == ()


@pytest.mark.parametrize(
    ("step", "state", "rungs"),
    [
        (0, "running", 0),
        (200, "running", 1),
        (400, "running", 1),
        (200, "stopped", 0),
        (600, "stopped", 1),
        (800, "stopped", 2),  # by the budget: it had passed 600
        (600, "failed", 2),
        (1400, "completed", 2),
    ],
)
def test_rungs_passed(step, state, rungs):
    """Rungs are at 200 and 600 of 1400."""
    assert ladder().passed(trial(step, state)) == rungs


def test_with_a_budget_in_images_a_trial_of_five_critic_steps_climbs_five_times_as_fast():
    """Rungs at 200 and 600 of 1400 rounds of 64 images; this trial has 280 rounds of 320."""
    climbed = ladder("budget.images=89600", "budget.rounds=null")
    assert climbed.rungs == (200, 600)
    assert climbed.passed(trial(40, "running", last_step=280)) == 1
    assert climbed.passed(trial(120, "running", last_step=280)) == 2
    assert climbed.passed(trial(200, "stopped", last_step=280)) == 0, "at its first evaluation"


def test_without_stopping_the_rest_of_every_budget_is_left():
    rows = [trial(1400, "completed"), trial(350, "running"), trial(0, "failed")]
    assert trials_left(rows, 5, "none", ladder("search.scheduler=none")) == pytest.approx(0.75 + 2)
    assert work_done(rows) == 1.25


def test_a_third_is_expected_to_pass_each_rung_before_anything_is_known():
    """A new trial plays 200, then a third of 400, then a ninth of 800. A trial past the first rung plays the 400."""
    fresh = (200 + 400 / 3 + 800 / 9) / 1400
    assert trials_left([], 9, "asha", ladder()) == pytest.approx(9 * fresh)
    begun = (400 + 800 / 3) / 1400
    assert trials_left([trial(200, "running")], 1, "asha", ladder()) == pytest.approx(begun)


def test_ended_trials_put_the_expectation_right():
    """All of thirty trials ended at the first rung, so the others are expected to end soon after it."""
    rows = [*[Outcome(f"{n}", "stopped", {"name": "wgan_gp"}, 200, 1400, 9.0, None, None) for n in range(30)]]
    fresh = (200 + 400 / 3 + 800 / 9) / 1400
    assert trials_left(rows, 40, "asha", ladder()) == pytest.approx(10 * (30 * 200 / 1400 + 3 * fresh) / 33)


def test_a_trial_that_came_further_than_all_ended_ones_is_judged_by_the_rungs_alone():
    rows = [trial(200, "stopped"), trial(600, "running")]
    assert trials_left(rows, 2, "asha", ladder()) == pytest.approx(800 / 1400)
