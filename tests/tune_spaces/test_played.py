"""No settings are suggested twice in a search, and a search knows how many there are."""

import itertools
import math
from collections import Counter

import pytest

from tune_spaces.domains import Choice, Range, Whole
from tune_spaces.engines import searcher
from tune_spaces.searcher import FamilySearcher
from tune_spaces.studies import Study

SAMPLERS = ["random", "sobol", "tpe", "gp"]
FEW = {
    "wgan": {"n_critic": Choice((1, 2, 5)), "width": Whole(8, 10)},
    "wgan_gp": {"n_critic": Whole(3, 4), "net": Choice(("auto", "mlp"))},
    "gan": {},
}
LINE = {"wgan": {"lr": Range(1e-5, 1e-2, log=True), "beta1": Range(0.0, 0.9), "n_critic": Choice((1, 5))}}


def every(spaces) -> list[tuple]:
    """All settings of discrete spaces, sorted."""
    values = {Choice: lambda one: one.values, Whole: lambda one: range(one.low, one.high + 1)}
    found = []
    for name, space in spaces.items():
        fields = [[(field, value) for value in values[type(one)](one)] for field, one in space.items()]
        found += [tuple(sorted({"name": name, **dict(chosen)}.items())) for chosen in itertools.product(*fields)]
    return sorted(found)


def key(settings) -> tuple:
    return tuple(sorted(settings.items()))


def score(settings) -> float:
    return 10.0 * settings.get("n_critic", 3) + settings.get("width", 8) + 40 * (settings["name"] == "wgan_gp")


def drawn(engine: FamilySearcher, behind: int = 2) -> list[dict]:
    """All suggestions. A result comes `behind` trials later, as when trials run at once."""
    found = []
    for number in itertools.count():
        suggestion = engine.suggest(str(number))
        if suggestion is None:
            return found
        found.append(suggestion["settings"])
        if number >= behind:
            engine.on_trial_complete(str(number - behind), {"fid": score(found[number - behind]), "step": 9})


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("compare", [False, True])
@pytest.mark.parametrize("families", [("wgan",), ("wgan", "wgan_gp"), tuple(FEW)])
def test_a_discrete_space_is_played_whole_and_nothing_of_it_twice(name, compare, families):
    spaces = {family: FEW[family] for family in families}
    engine = searcher(name, spaces, 5, compare=compare)
    wanted = every(spaces)
    assert engine.most == len(wanted)
    assert sorted(map(key, drawn(engine))) == wanted


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_gives_the_same_order_again(name):
    first, again, other = (drawn(searcher(name, FEW, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("compare", [False, True])
def test_the_others_go_on_once_a_family_is_played_whole(name, compare):
    spaces = {"gan": {"n_critic": Choice((1, 2))}, **LINE}
    engine = searcher(name, spaces, 0, compare=compare)
    assert engine.most == math.inf
    found = [engine.suggest(str(number))["settings"] for number in range(14)]
    assert Counter(map(key, found)).most_common(1)[0][1] == 1
    assert sum(one["name"] == "gan" for one in found) <= 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_points_and_the_papers_settings_are_played_once(name):
    inside, outside = {"name": "gan", "n_critic": 2}, {"name": "gan", "n_critic": 9}
    spaces = {"gan": {"n_critic": Choice((1, 2, 3))}}
    points = [inside, outside, dict(inside), dict(outside)]
    engine = searcher(name, spaces, 0, points=points, defaults=[inside])
    found = drawn(engine)
    assert engine.most == len(found) == 4
    assert found[:2] == [inside, outside]
    assert {one["n_critic"] for one in found} == {1, 2, 3, 9}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_continuous_space_is_searched_as_the_sampler_would_alone(name):
    engine, alone = searcher(name, LINE, 4), Study(name, LINE, 4)
    for number in range(20):
        trial = str(number)
        settings = engine.suggest(trial)["settings"]
        assert settings == alone.ask(trial)
        fid = 100.0 * settings["lr"] + settings["beta1"]
        engine.on_trial_complete(trial, {"fid": fid, "step": 9})
        alone.tell(trial, fid)


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_model_learns_from_what_was_played_instead_of_a_repeat(name):
    """Two of three seeds find the best of 64 settings before a third of them is played."""
    spaces, best = (
        {"wgan": {"n_critic": Whole(1, 8), "width": Whole(8, 15)}},
        {"name": "wgan", "n_critic": 1, "width": 8},
    )
    found = 0
    for seed in range(3):
        engine = searcher(name, spaces, seed)
        for number in range(21):
            settings = engine.suggest(str(number))["settings"]
            engine.on_trial_complete(str(number), {"fid": score(settings), "step": 9})
            if settings == best:
                found += 1
                break
    assert found >= 2


def test_a_model_that_stays_at_one_point_is_moved_a_little():
    """The Gaussian process suggests exactly the same corner again and again where nothing is better than it."""
    spaces = {"wgan": {"lr": Range(1e-5, 1e-2, log=True), "n_critic": Choice((1, 5))}}
    engine, alone = searcher("gp", spaces, 0), Study("gp", spaces, 0)
    found = {name: [] for name in ("engine", "alone")}
    for number in range(30):
        trial = str(number)
        for name, settings in (("engine", engine.suggest(trial)["settings"]), ("alone", alone.ask(trial))):
            found[name].append((settings["lr"], settings["n_critic"]))
        engine.on_trial_complete(trial, {"fid": -math.log(found["engine"][-1][0]), "step": 9})
        alone.tell(trial, -math.log(found["alone"][-1][0]))
    assert len(set(found["alone"])) < 30
    assert len(set(found["engine"])) == 30
    assert sum(lr > 5e-3 for lr, _ in found["engine"][10:]) > 10
