"""Search spaces against the families' own fields, the engines against what Ray Tune and Optuna make of them."""

import optuna
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from gan_core.family import build_family, family_class, family_names
from tune_spaces.domains import NARROW, WIDE, Choice, Range, SearchedFields, Whole, suggest
from tune_spaces.engines import scheduler
from tune_spaces.fields import FieldRange

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
    "began": {"lr", "beta1", "n_critic", "gamma", "lambda_k"},
    "autoencoder": {"lr", "beta1"},
    "vae": {"lr", "beta1", "kl_weight"},
    "bigan": {"lr", "beta1", "n_critic"},
    "lsgan": {"lr", "beta1", "n_critic"},
    "dragan": {"lr", "beta1", "gp_lambda", "n_critic"},
    "sngan": {"lr", "beta1", "n_critic"},
    "r3gan": {"lr", "n_critic", "r1_r2_gamma"},
    "biggan": {"lr", "critic_lr", "beta1", "n_critic"},
}


def spaces(fixed=()):
    return {name: SearchedFields(fixed=fixed).space(family_class(name)()) for name in family_names()}


@pytest.mark.parametrize("name", family_names())
def test_a_space_holds_the_familys_own_fields_only(name):
    found = SearchedFields().space(family_class(name)())
    assert set(found) <= set(family_class(name).model_fields)
    assert set(found) == SEARCHED.get(name, set(found))
    assert found, "a family that cannot be searched"


@pytest.mark.parametrize("name", family_names())
def test_fixed_fields_are_left_out(name):
    whole = SearchedFields().space(family_class(name)())
    for field in whole:
        assert set(SearchedFields(fixed=[field]).space(family_class(name)())) == set(whole) - {field}
    assert set(SearchedFields(fixed=["width", "clip"]).space(family_class(name)())) == set(whole) - {"clip"}
    assert SearchedFields(fixed=list(whole)).space(family_class(name)()) == {}


@pytest.mark.parametrize("width", ["narrow", "wide"])
@pytest.mark.parametrize("name", family_names())
def test_each_searched_field_has_a_domain_inside_its_own_range(name, width):
    """The range that pydantic knows; the family accepts both ends."""
    found = SearchedFields(range=width).space(family_class(name)())
    assert set(found) == set(SearchedFields().space(family_class(name)())), "both ranges are of the same fields"
    for field, domain in found.items():
        declared = family_class(name).model_fields[field].metadata
        low = next(one.ge for one in declared if hasattr(one, "ge"))
        high = next(one.le for one in declared if hasattr(one, "le"))
        assert low <= min(domain.ends) < max(domain.ends) <= high
        for value in domain.ends:
            assert getattr(build_family({"name": name, field: value}), field) == value


@pytest.mark.parametrize("width", ["narrow", "wide"])
@pytest.mark.parametrize("name", family_names())
def test_the_papers_settings_lie_in_the_space(name, width):
    family = family_class(name)()
    for field, domain in SearchedFields(range=width).space(family).items():
        assert getattr(family, field) in domain, field


def test_wide_is_the_ranges_of_the_study():
    """As in google/compare_gan, src/params.py, except for beta1=1, with which Adam's first moment is 0 / 0."""
    study = {
        "lr": Range(1e-5, 1e-2, log=True),
        "beta1": Range(0.0, 0.9999),
        "n_critic": Choice((1, 5)),
        "clip": Range(1e-3, 1.0, log=True),
        "gp_lambda": Range(0.1, 100.0, log=True),
        "gamma": Range(0.0, 1.0),
        "lambda_k": Range(1e-4, 1e-2, log=True),
    }
    assert {name: WIDE[name] for name in study} == study


def test_a_domain_is_cut_to_what_a_field_takes():
    field = FieldRange("number", 0.5, 0.2, 0.8)
    assert Range(0.0, 1.0).within(field) == Range(0.2, 0.8)
    assert Range(0.3, 0.4, log=True).within(field) == Range(0.3, 0.4, log=True)
    assert Range(1.0, 2.0).within(field) is None
    assert Choice((0.1, 0.3, 0.4)).within(field) == Choice((0.3, 0.4))
    assert Choice((0.1, 0.3)).within(field) is None, "one value is no choice"
    assert Whole(0, 9).within(field) is None
    assert Whole(0, 9).within(FieldRange("whole", 1, 1, 5)) == Whole(1, 5)


def test_a_users_own_domain_goes_before_the_ranges_and_adds_fields():
    own = {"wgan": {"lr": Range(0.1, 0.2), "width": Whole(8, 16)}}
    searched = SearchedFields("wide", fixed=("clip",), own=own)
    assert searched.space(family_class("wgan")()) == {
        "lr": Range(0.1, 0.2),
        "n_critic": Choice((1, 5)),
        "width": Whole(8, 16),
    }
    assert "width" not in searched.space(family_class("wgan_gp")())


def test_domains_say_what_they_are():
    assert str(Range(1e-5, 2.0, log=True)) == "1e-05..2 (log)"
    assert str(Range(0.0, 0.9)) == "0..0.9"
    assert str(Choice((1, 2, "auto"))) == "{1, 2, auto}"
    assert str(Whole(1, 10)) == "1..10 (whole)"
    said = [Range(1e-5, 2.0, log=True), Range(0.0, 0.9), Choice((1, 2, "auto")), Whole(1, 10)]
    assert [one.expression for one in said] == [
        "loguniform(1e-05,2)",
        "uniform(0,0.9)",
        "choice(1,2,auto)",
        "randint(1,10)",
    ]


def test_each_suggestion_is_a_family_with_its_own_fields_and_no_others():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(20 * len(family_names())):
        trial = study.ask()
        settings = suggest(trial, spaces())["settings"]
        name = settings["name"]
        fields = SearchedFields().space(family_class(name)())
        assert set(settings) == {"name", *fields}
        assert set(trial.params) == {"family", *(f"{name}.{field}" for field in fields)}
        family = build_family(settings)
        assert {"name": family.name, **family.model_dump(include=settings.keys())} == settings
        study.tell(trial, 1.0)
        seen.add(name)
    assert seen == set(family_names())


def test_one_family_needs_no_choice_of_a_family():
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    settings = suggest(trial, {"wgan": SearchedFields(fixed=["lr"]).space(family_class("wgan")())})["settings"]
    assert set(settings) == {"name", "clip", "n_critic"}
    assert set(trial.params) == {"wgan.clip", "wgan.n_critic"}


def test_log_ranges_are_drawn_by_their_logarithm():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    domain = Range(1e-4, 1e4, log=True)
    drawn = [domain.suggest(study.ask(), "x") for _ in range(400)]
    assert min(drawn) < 1e-3
    assert max(drawn) > 1e3
    assert 0.35 < sum(value < 1 for value in drawn) / len(drawn) < 0.65  # linear: one in 10,000


def tune_trial() -> Trial:
    return Trial("nothing", stub=True)


def decisions(of, results: list[tuple[int, float]]) -> list[str]:
    """The scheduler's decisions for trials that reach a step with a FID, one after another."""
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


def test_an_option_that_a_family_is_without_is_searched_only_if_it_is_asked_for():
    """dcgan's r1_gamma is 0: a logarithmic domain would give R1 to every trial."""
    for width in ("narrow", "wide"):
        assert "r1_gamma" not in SearchedFields(range=width).space(family_class("dcgan")())
    own = {"dcgan": {"r1_gamma": NARROW["r1_gamma"]}}
    assert SearchedFields(own=own).space(family_class("dcgan")())["r1_gamma"] == Range(0.01, 10.0, log=True)


def test_a_field_is_searched_where_it_has_a_meaning():
    def searched(name, **fields):
        return set(SearchedFields().space(build_family({"name": name, **fields})))

    assert "critic_batch_norm" not in searched("wgan_gp")
    assert searched("wgan_gp", net="infogan") == searched("wgan_gp") | {"critic_batch_norm"}
    assert searched("wgan", optimizer="adam") == searched("wgan") | {"beta1"}
    assert searched("vae", net="infogan") == searched("vae") | {"encoder_batch_norm"}
