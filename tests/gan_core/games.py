"""Small games that many tests play. Worker processes import this, too, so it does not import pytest."""

from __future__ import annotations

from typing import Any

from gan_core.experiment import Experiment
from gan_core.family import family_class, family_names
from gan_core.testing.games import BATCH, asked, dataset, new_game, play, state
from tune_spaces.fields import field_range

__all__ = ["BATCH", "GAMES", "QUICK", "asked", "dataset", "new_game", "play", "small", "state", "tiered"]

OPTIONS = {
    "minibatch_features": ["family.minibatch_features=3"],
    "unrolled": ["family.unrolled=2"],
    "instance_noise": ["family.instance_noise=0.5", "family.noise_rounds=30"],
    "dropout": ["family.dropout=0.5"],
    "augment": ["family.augment=colour+translation+cutout"],
    "ada_target": ["family.augment=flip+cutout", "family.ada_target=0.6", "family.ada_images=400"],
    "r1_gamma": ["family.r1_gamma=2", "family.r1_every=2"],
    "critic_batch_norm": ["family.net=infogan", "family.critic_batch_norm=true"],
    "encoder_batch_norm": ["family.net=infogan", "family.encoder_batch_norm=true"],
    "labels": ["family.labels=true"],
    "path_length": ["family.path_length=2"],
    "mixing": ["family.mixing=0.9", "family.minibatch_group=16"],  # one group across ranks
}
"""Settings that turn on a family's options that are no words."""


CHOSEN_FIRST = ("dcgan", "gan", "wgan_gp")
"""Families on which the quick tier plays an option, if they have it."""


def games() -> dict[str, list[str]]:
    """Overrides by game: every family with its defaults, with each of its choices and options, and on points."""
    found: dict[str, list[str]] = {}
    for name in family_names():
        base = [f"family.name={name}"]
        options = {option: [*base, *settings] for option, settings in _options(name).items()}
        found |= {name: base, **{f"{name}-{option}": overrides for option, overrides in options.items()}}
    found["gan-uniform"] = ["family.name=gan", "family.z=uniform"]  # all families draw z alike
    foreign = "family.name=tests.gan_core.modern:Modern"
    return found | {"modern": [foreign], "modern-parts": [foreign, f"data.micro_batch={BATCH // 2}"]}


def _options(name: str) -> dict[str, list[str]]:
    """The settings of a family's choices and options, by what they are called."""
    found: dict[str, list[str]] = {}
    fields = family_class(name).model_fields
    for field, info in fields.items():
        values = field_range(family_class(name), field)
        if values.words and not values.joined and field != "z":
            known = (info.default, "dcgan")  # auto is dcgan on images
            found |= {choice: [f"family.{field}={choice}"] for choice in values.words if choice not in known}
        adaptive = field == "augment" and "ada_target" in fields  # which augments, too
        if field in OPTIONS and (not adaptive or name in CHOSEN_FIRST):
            found[field] = OPTIONS[field]
    on_points = "net" in fields and "mlp" in field_range(family_class(name), "net").words
    return found | ({"ring8": ["data.name=ring8", "family.net=mlp"]} if on_points else {})


def quick_games() -> list[str]:
    """Every family with its defaults, and each choice and option in one family."""
    names = sorted(family_names(), key=lambda name: (*(name != one for one in CHOSEN_FIRST), name))
    of_option = {option: f"{name}-{option}" for name in reversed(names) for option in _options(name)}
    played = {*family_names(), *of_option.values(), "gan-uniform", "modern-parts"}
    return [name for name in GAMES if name in played]


GAMES = games()
QUICK = quick_games()


def tiered(*names: str) -> list[Any]:
    """Those of GAMES, or all, as a test's parameters: in the quick tier those of QUICK, in the full tier the others."""
    import pytest

    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.full) for name in names or GAMES]


def small(game: str, *assignments: str, width: int = 4) -> Experiment:
    """The experiment of one of GAMES, with tiny networks and a batch of 16."""
    overrides = GAMES[game]
    family = overrides[0].partition("=")[2]
    sizes = [f"family.{field}={width}" for field in ("width", "critic_width") if _has(family, field)]
    sizes += ["family.labelled=40"] if _has(family, "labelled") else []
    return Experiment.load({"family": {"name": family}}).override(
        "family.latent=8", f"data.batch_size={BATCH}", *sizes, *overrides, *assignments
    )


def _has(family: str, field: str) -> bool:
    return field in family_class(family).model_fields
