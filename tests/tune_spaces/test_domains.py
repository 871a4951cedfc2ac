"""Search spaces against the families' own fields, the engines against what Ray Tune and Optuna make of them."""

import math

import optuna
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from gan_core.family import build_family, family_class, family_names
from tune_spaces.domains import DOMAINS, Choice, Range, space, suggest
from tune_spaces.engines import scheduler, searcher

optuna.logging.set_verbosity(optuna.logging.WARNING)

# From the table in README.md, less what is no hyper-parameter of the game's balance.
SEARCHED = {
    "gan": {"lr", "beta1", "n_critic"},
    "dcgan": {"lr", "beta1", "n_critic"},
    "wgan": {"lr", "clip", "n_critic"},
    "wgan_gp": {"lr", "beta1", "gp_lambda", "n_critic"},
    "cgan": {"lr", "beta1", "n_critic"},
    "cwgan_gp": {"lr", "beta1", "gp_lambda", "n_critic"},
    "sgan": {"lr", "beta1", "n_critic"},
    "began": {"lr", "beta1", "gamma"},
    "autoencoder": {"lr", "beta1"},
    "vae": {"lr", "beta1", "kl_weight"},
    "bigan": {"lr", "beta1", "n_critic"},
}


def spaces(fixed=()):
    return {name: space(family_class(name), fixed) for name in family_names()}


@pytest.mark.parametrize("name", family_names())
def test_a_space_holds_the_familys_own_fields_only(name):
    found = space(family_class(name))
    assert set(found) <= set(family_class(name).model_fields)
    assert set(found) == SEARCHED.get(name, set(found))
    assert found, "a family that cannot be searched"


@pytest.mark.parametrize("name", family_names())
def test_fixed_fields_are_left_out(name):
    whole = space(family_class(name))
    for field in whole:
        assert set(space(family_class(name), fixed=[field])) == set(whole) - {field}
    assert set(space(family_class(name), fixed=["width", "clip"])) == set(whole) - {"clip"}
    assert space(family_class(name), fixed=list(whole)) == {}


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name in family_names() for field in space(family_class(name))]
)
def test_a_domain_lies_inside_the_range_of_each_family_that_has_the_field(name, field):
    domain = DOMAINS[field]
    ends = [domain.low, domain.high] if isinstance(domain, Range) else domain.values
    for value in ends:
        assert getattr(build_family({"name": name, field: value}), field) == value


def test_domains_say_what_they_are():
    assert str(Range(1e-5, 2.0, log=True)) == "1e-05..2 (log)"
    assert str(Range(0.0, 0.9)) == "0..0.9"
    assert str(Choice((1, 2, "auto"))) == "{1, 2, auto}"


def test_each_suggestion_is_a_family_with_its_own_fields_and_no_others():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        settings = suggest(trial, spaces())["settings"]
        name = settings["name"]
        assert set(settings) == {"name", *space(family_class(name))}
        assert set(trial.params) == {"family", *(f"{name}.{field}" for field in space(family_class(name)))}
        family = build_family(settings)
        assert {"name": family.name, **family.model_dump(include=settings.keys())} == settings
        study.tell(trial, 1.0)
        seen.add(name)
    assert seen == set(family_names())


def test_one_family_needs_no_choice_of_a_family():
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    settings = suggest(trial, {"wgan": space(family_class("wgan"), fixed=["lr"])})["settings"]
    assert set(settings) == {"name", "clip", "n_critic"}
    assert set(trial.params) == {"wgan.clip", "wgan.n_critic"}


def test_log_ranges_are_drawn_by_their_logarithm():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    domain = Range(1e-4, 1e4, log=True)
    drawn = [domain.suggest(study.ask(), "x") for _ in range(400)]
    assert min(drawn) < 1e-3
    assert max(drawn) > 1e3
    assert 0.35 < sum(value < 1 for value in drawn) / len(drawn) < 0.65  # linear: one in 10,000


def suggestions(name: str, seed: int, count: int = 12, families=None) -> list[dict]:
    """What a sampler asks for, each answered with a score that is a function of it."""
    searched = {family: of for family, of in spaces().items() if families is None or family in families}
    engine = searcher(name, searched, seed)
    found = []
    for number in range(count):
        settings = engine.suggest(str(number))["settings"]
        found.append(settings)
        score = abs(math.log10(settings["lr"]) + 3.5)
        engine.on_trial_complete(str(number), {"fid": score, "step": 1, "training_iteration": 1})
    return found


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_a_seed_gives_the_same_suggestions_again(name):
    first = suggestions(name, seed=3)
    assert suggestions(name, seed=3) == first
    assert suggestions(name, seed=4) != first
    for settings in first:
        build_family(settings)


def test_tpe_learns_from_scores_and_random_does_not():
    def far(name):
        found = [suggestions(name, seed, count=60, families=("wgan", "wgan_gp"))[30:] for seed in (1, 2, 3)]
        late = [settings for of_seed in found for settings in of_seed]
        return sum(abs(math.log10(settings["lr"]) + 3.5) for settings in late) / len(late)

    assert far("tpe") < far("random")


def tune_trial() -> Trial:
    return Trial("nothing", stub=True)


def decisions(of, results: list[tuple[int, float]]) -> list[str]:
    """What the scheduler says to trials that reach a step with a FID, one after the other."""
    said = []
    for step, fid in results:
        trial = tune_trial()
        of.on_trial_add(None, trial)
        said.append(of.on_trial_result(None, trial, {"step": step, "fid": fid}))
    return said


def test_asha_stops_what_is_not_in_the_best_third_of_a_rung():
    go, stop = TrialScheduler.CONTINUE, TrialScheduler.STOP
    asha = scheduler("asha", last_step=2000, first_rung=200)
    arrivals = [(200, 50.0), (200, 90.0), (200, 40.0), (200, 60.0), (200, 10.0), (200, 55.0)]
    assert decisions(asha, arrivals) == [go, stop, go, stop, go, stop]
    assert decisions(asha, [(199, 1e6)]) == [go], "no rung yet"
    assert decisions(asha, [(2000, 1.0)]) == [stop], "the end of the budget"


@pytest.mark.parametrize("last_step", [1, 50, 200])
def test_asha_of_a_game_no_longer_than_its_first_rung(last_step):
    asha = scheduler("asha", last_step, first_rung=200)
    assert decisions(asha, [(last_step, 5.0)]) == [TrialScheduler.STOP]


def test_without_a_scheduler_all_go_on():
    fifo = scheduler("none", 2000, 200)
    assert isinstance(fifo, FIFOScheduler)
    assert set(decisions(fifo, [(200, 1.0), (200, 1e9), (2000, 5.0)])) == {TrialScheduler.CONTINUE}
