"""What a search suggests: against statistics of SciPy."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from gan_core.family import build_family, family_class
from gan_core.measures import FID, Objective
from tune_spaces.domains import Range, SearchedFields
from tune_spaces.engines import searcher

MODELS = ["tpe", "gp"]
SAMPLERS = ["random", "sobol", *MODELS]
TWO = ("wgan", "wgan_gp")


def spaces(families=TWO, width="wide"):
    return {name: SearchedFields(width).space(family_class(name)()) for name in families}


def defaults(families=TWO):
    return [
        {"name": name, **{field: getattr(family_class(name)(), field) for field in own}}
        for name, own in spaces(families).items()
    ]


def score(settings) -> float:
    return 10 * abs(math.log10(settings["lr"]) + 3.5) + 3 * (settings["name"] == "wgan")


def answer(engine, trial: str, settings) -> None:
    """Reports a result of a trial, and ends it."""
    result = {"fid": score(settings), "step": 200, "training_iteration": 1}
    engine.on_trial_result(trial, result)
    engine.on_trial_complete(trial, result)


def play(engine, first: int, count: int) -> list[dict]:
    found = []
    for number in range(first, first + count):
        settings = engine.suggest(str(number))["settings"]
        answer(engine, str(number), settings)
        found.append(settings)
    return found


def made(name, seed=0, families=TWO, **more):
    return searcher(name, spaces(families), seed, **more)


# Distributions


def unit(settings: list[dict], space) -> np.ndarray:
    """The numeric fields as points of the unit cube, by the distribution they should have."""

    def place(value, domain: Range) -> float:
        low, high, value = (map(math.log, (*domain.ends, value))) if domain.log else (*domain.ends, value)
        return (value - low) / (high - low)

    numeric = {field: domain for field, domain in space.items() if isinstance(domain, Range)}
    return np.array([[place(one[field], domain) for field, domain in numeric.items()] for one in settings])


@pytest.mark.parametrize("name", ["random", "sobol"])
@pytest.mark.parametrize("family", TWO)
def test_fields_are_uniform_in_their_domain_or_its_logarithm(name, family):
    found = play(made(name, families=[family]), 0, 256)
    for column in unit(found, spaces()[family]).T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    chosen = [one["n_critic"] for one in found]
    assert set(chosen) == {1, 5}
    assert stats.binomtest(chosen.count(1), len(chosen)).pvalue > 1e-3


@pytest.mark.parametrize("family", TWO)
@pytest.mark.parametrize("compare", [False, True])
def test_sobol_is_spread_more_evenly_than_random_in_each_family(family, compare):
    """Also among several: a sequence of which every other point is another family's would not be."""

    def discrepancy(name, seed) -> float:
        found = play(made(name, seed, compare=compare), 0, 64)
        points = unit([one for one in found if one["name"] == family][:24], spaces()[family])
        return stats.qmc.discrepancy(points)

    seeds = range(5)
    assert np.median([discrepancy("sobol", seed) for seed in seeds]) < 0.5 * np.median(
        [discrepancy("random", seed) for seed in seeds]
    )


def test_sobol_gives_families_turns():
    found = [one["name"] for one in play(made("sobol"), 0, 10)]
    assert found == [*TWO] * 5


# All samplers


@pytest.mark.parametrize("name", SAMPLERS)
def test_suggestions_are_settings_of_a_family_in_its_space_as_plain_values(name):
    families = ("wgan", "wgan_gp", "began")
    for settings in play(made(name, families=families), 0, 30):
        space = spaces(families)[settings["name"]]
        assert list(settings) == ["name", *space]
        assert all(settings[field] in domain for field, domain in space.items())
        assert {type(value) for value in settings.values()} <= {str, int, float}
        build_family(settings)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_gives_the_same_suggestions_again(name):
    random.seed(0)
    np.random.seed(0)
    first = play(made(name, seed=3), 0, 20)
    random.seed(1)
    np.random.seed(1)
    assert play(made(name, seed=3), 0, 20) == first
    assert play(made(name, seed=4), 0, 20) != first


@pytest.mark.parametrize("name", MODELS)
def test_models_learn_from_scores_and_random_does_not(name):
    def late(name) -> float:
        found = [play(made(name, seed), 0, 36)[24:] for seed in (1, 2)]
        return float(np.mean([score(settings) for of_seed in found for settings in of_seed]))

    assert late(name) < 0.8 * late("random")


@pytest.mark.parametrize("name", SAMPLERS)
def test_families_that_are_compared_have_equal_shares(name):
    families = ("wgan", "wgan_gp", "began")
    found = [
        one["name"] for one in play(made(name, families=families, compare=True, defaults=defaults(families)), 0, 18)
    ]
    assert {name: found.count(name) for name in families} == dict.fromkeys(families, 6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_family_in_a_comparison_is_searched_as_if_alone(name):
    """The state of its sampler depends only on its own fields and scores."""
    pair = [one for one in play(made(name, compare=True), 0, 24) if one["name"] == "wgan"]
    other = play(made(name, compare=True, families=("wgan", "began")), 0, 24)
    assert pair == [one for one in other if one["name"] == "wgan"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_points_come_first_wherever_they_lie_then_the_papers_settings_for_models(name):
    points = [
        {"name": "wgan_gp", "lr": 1e-4, "beta1": 0.5, "gp_lambda": 10.0, "n_critic": 5},
        {"name": "wgan", "lr": 0.5, "clip": 50.0, "n_critic": 77, "width": 8},
    ]
    found = play(made(name, points=points, defaults=defaults()), 0, 20)
    assert found[:2] == points
    assert (found[2:4] == defaults()) == (name in MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_from_a_point(name):
    """Of seven points, of which one is far better than the rest, suggestions come near the one."""
    values = [1e-5, 3e-5, 1e-4, 3e-4, 3e-3, 1e-2, 9e-3]
    points = [{"name": "wgan", "lr": lr, "clip": 0.03, "n_critic": 1} for lr in values]
    near = play(made(name, families=["wgan"], points=points), 0, 17)[7:]
    assert sum(abs(math.log10(one["lr"]) + 3.5) < 0.75 for one in near) > 5  # a quarter of them at random


def test_a_default_outside_the_users_domain_is_no_guess():
    engine = searcher("tpe", {"wgan": {"lr": Range(0.1, 0.2)}}, 0, defaults=[{"name": "wgan", "lr": 5e-5}])
    assert engine.suggest("0")["settings"]["lr"] in Range(0.1, 0.2)


@pytest.mark.parametrize("name", MODELS)
def test_settings_of_trials_that_fail_are_kept_away_from(name):
    """All settings are as good, but those of a high learning rate diverge: two thirds of the space."""
    diverge = 10**-4
    engine, found = made(name, families=["wgan"]), []
    for number in range(36):
        lr = engine.suggest(str(number))["settings"]["lr"]
        found.append(lr)
        if lr > diverge:
            engine.on_trial_complete(str(number), error=True)
        else:
            engine.on_trial_complete(str(number), {"fid": 10.0 + number % 3, "step": 200})
    assert sum(lr > diverge for lr in found[16:]) <= 9, "of 20; at random 13"


@pytest.mark.parametrize("name", MODELS)
def test_trials_that_diverge_before_any_has_a_fid_are_learned_from_too(name):
    """As if they had diverged after it."""

    def next_five(order) -> list[dict]:
        engine = made(name, families=["wgan"])
        for number in range(12):
            engine.suggest(str(number))
        for number in order:
            fid = math.inf if number < 6 else 10.0
            engine.on_trial_complete(str(number), {"fid": fid, "step": 200})
        return play(engine, 12, 5)

    assert next_five([*range(12)]) == next_five([*range(6, 12), *range(6)])


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("result", [None, {}, {"step": 0}, {"step": 3, "fid": math.nan}, {"step": 3, "fid": math.inf}])
def test_a_search_in_which_all_trials_fail_goes_on(name, result):
    engine = made(name)
    for number in range(12):
        assert engine.suggest(str(number))
        if result:
            engine.on_trial_result(str(number), result)
        engine.on_trial_complete(str(number), result, error=result is None)
    engine.on_trial_complete("never heard of")


@pytest.mark.parametrize("name", MODELS)
def test_a_trial_that_is_stopped_while_paused_is_worth_its_last_fid(name):
    """Tune then ends it without a result."""

    def next_five(ends) -> list[dict]:
        engine = made(name, families=["wgan"])
        for number in range(15):
            settings = engine.suggest(str(number))["settings"]
            result = {"fid": score(settings), "step": 200}
            engine.on_trial_result(str(number), result)
            ends(engine, str(number), result)
        return play(engine, 15, 5)

    told = next_five(lambda engine, trial, result: engine.on_trial_complete(trial, result))
    stopped = next_five(lambda engine, trial, result: engine.on_trial_complete(trial))
    failed = next_five(lambda engine, trial, result: engine.on_trial_complete(trial, error=True))
    assert stopped == told
    assert failed != told


@pytest.mark.parametrize("name", MODELS)
def test_of_a_measure_whose_high_values_are_good_high_ones_are_looked_for(name):
    """The suggestions are those on the negative values of a measure whose low values are good."""
    found = {}
    for objective, sign in ((Objective("my_score", "max"), -1.0), (FID, 1.0)):
        engine, drawn = made(name, families=TWO[:1], objective=objective), []
        for number in range(14):
            settings = engine.suggest(str(number))["settings"]
            result = {objective.name: sign * score(settings), "step": 200}
            if number == 5:  # it failed
                result[objective.name] = objective.failure
            engine.on_trial_result(str(number), result)
            engine.on_trial_complete(str(number), result)
            drawn.append(settings)
        found[objective.mode] = drawn
    assert found["max"] == found["min"]
