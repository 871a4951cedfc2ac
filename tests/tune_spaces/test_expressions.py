"""Domains as a user writes them, against the fields of the families; each nearest one is right itself."""

import re

import pytest

from gan_core.family import build_family, family_class, family_names
from gan_core.settings import SettingsError
from tune_spaces.domains import Choice, Range, Whole
from tune_spaces.expressions import example, parse_domain


def parsed(text, family="wgan", field="lr"):
    return parse_domain(f"space.{field}", text, family_class(family), field)


@pytest.mark.parametrize(
    ("text", "field", "domain"),
    [
        ("loguniform(1e-5,1e-2)", "lr", Range(1e-5, 1e-2, log=True)),
        (" uniform( 0.001 , 1e-2 ) ", "lr", Range(1e-3, 1e-2)),
        ("choice(1e-3,1e-4)", "lr", Choice((1e-3, 1e-4))),
        ("choice(1,5)", "n_critic", Choice((1, 5))),
        ("choice(1.0, 5)", "n_critic", Choice((1, 5))),
        ("randint(1,10)", "n_critic", Whole(1, 10)),
        ("choice(rmsprop,'adam')", "optimizer", Choice(("rmsprop", "adam"))),
        ("choice(16,32,64)", "width", Choice((16, 32, 64))),
        ("choice(false,True)", "critic_batch_norm", Choice((False, True))),
        ("uniform(0.9,0.99)", "ema", Range(0.9, 0.99)),
    ],
)
def test_what_a_user_may_write(text, field, domain):
    assert parsed(text, field=field) == domain
    assert parsed(domain.expression, field=field) == domain


@pytest.mark.parametrize(
    ("text", "field", "right"),
    [
        ("fast", "lr", "loguniform(5e-05,0.002)"),
        ("loguniform", "lr", "loguniform(5e-05,0.002)"),
        ("loguniform(1e-5)", "lr", "loguniform(5e-05,0.002)"),
        ("loguniform(1e-5,x)", "lr", "loguniform(5e-05,0.002)"),
        ("uniform(nan,1)", "lr", "loguniform(5e-05,0.002)"),
        ("logunifrom(1e-4,1e-3)", "lr", "loguniform(1e-4,1e-3)"),
        ("logunifrom(1e-4)", "lr", "loguniform(5e-05,0.002)"),
        ("loguniform(1e-2,1e-5)", "lr", "loguniform(1e-05,0.01)"),
        ("loguniform(0,1e-2)", "lr", "loguniform(1e-05,0.01)"),
        ("loguniform(-1,0)", "lr", "loguniform(5e-05,0.002)"),
        ("uniform(0.5,2)", "lr", "uniform(0.5,1)"),
        ("uniform(2,3)", "lr", "loguniform(5e-05,0.002)"),
        ("randint(0,1)", "lr", "uniform(1e-08,1)"),
        ("uniform(1,10)", "n_critic", "randint(1,10)"),
        ("loguniform(2,10)", "n_critic", "randint(2,10)"),
        ("randint(0,10)", "n_critic", "randint(1,10)"),
        ("randint(1.5,3)", "n_critic", "randint(2,3)"),
        ("choice(1,2.5,3)", "n_critic", "choice(1,3)"),
        ("choice(1,fast)", "n_critic", "choice(1,2,3,5)"),
        ("choice(0,1,3)", "n_critic", "choice(1,3)"),
        ("choice(rmsprob,adam)", "optimizer", "choice(rmsprop,adam)"),
        ("choice(0,1)", "critic_batch_norm", "choice(false,true)"),
        ("uniform(0,1)", "critic_batch_norm", "choice(false,true)"),
        ("uniform(0,1)", "optimizer", "choice(rmsprop,sgd,adam)"),
        ("uniform(0,1)", "width", "randint(16,64)"),
    ],
)
def test_a_mistake_is_told_with_the_nearest_right_one(text, field, right):
    with pytest.raises(SettingsError) as caught:
        parsed(text, field=field)
    message = str(caught.value)
    assert "\n" not in message
    assert f"space.{field}={text}" in message
    assert re.search(rf"nearest: space\.{field}={re.escape(right)}($| \()", message), message
    parsed(right, field=field)


@pytest.mark.parametrize(("text", "field"), [("choice(5)", "n_critic"), ("uniform(5,5)", "n_critic")])
def test_one_value_is_for_the_family(text, field):
    with pytest.raises(SettingsError, match=r"nearest: family\.n_critic=5$"):
        parsed(text, field=field)


def test_the_range_that_would_fit_is_said():
    with pytest.raises(SettingsError, match="from 1e-06 to 100; nearest: space.clip=uniform"):
        parsed("uniform(0,1000)", field="clip")


NEEDED = {
    "noise_rounds": {"instance_noise": 0.1},
    "ada_target": {"augment": "flip"},
    "ada_images": {"augment": "flip", "ada_target": 0.6},
    "r1_every": {"r1_gamma": 1.0},
}
"""Settings without which a field has no meaning."""


@pytest.mark.parametrize("name", family_names())
def test_each_field_of_each_family_has_an_example_that_it_takes(name):
    family = family_class(name)
    unused = family().without_meaning()
    for field in family.model_fields.keys() - ({"z"} if family.normal_z else set()):
        domain = parse_domain(f"space.{field}", example(family, field), family, field)
        for value in domain.ends:
            settings = {"name": name, field: value}
            settings |= NEEDED.get(field, {}) | dict([unused[field]] if field in unused else [])
            assert getattr(build_family(settings), field) == value
