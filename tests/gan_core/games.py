"""Small games that many tests play. Worker processes import this, too, so it does not import pytest."""

from __future__ import annotations

from gan_core.experiment import Experiment
from gan_core.family import family_class, family_names
from gan_core.testing.games import BATCH, asked, dataset, new_game, play, state
from tune_spaces.fields import field_range

__all__ = ["BATCH", "GAMES", "asked", "dataset", "games", "new_game", "play", "small", "state"]

OPTIONS = {
    "minibatch_features": ["family.minibatch_features=3"],
    "unrolled": ["family.unrolled=2"],
    "instance_noise": ["family.instance_noise=0.5", "family.noise_rounds=30"],
    "dropout": ["family.dropout=0.5"],
}
"""Settings that turn on a family's numeric options."""


def games() -> dict[str, list[str]]:
    """Overrides by game: every family with its defaults, with each of its choices and options, and on points."""
    found: dict[str, list[str]] = {}
    for name in family_names():
        base = [f"family.name={name}"]
        found[name] = base
        fields = family_class(name).model_fields
        for field, info in fields.items():
            words = field_range(family_class(name), field).words
            if words:
                known = (info.default, "dcgan")  # auto is dcgan on images
                others = [choice for choice in words if choice not in known]
                found |= {f"{name}-{choice}": [*base, f"family.{field}={choice}"] for choice in others}
            if field in OPTIONS:
                found[f"{name}-{field}"] = [*base, *OPTIONS[field]]
        if "net" in fields:
            found[f"{name}-ring8"] = [*base, "data.name=ring8", "family.net=mlp"]
    foreign = "family.name=tests.gan_core.modern:Modern"
    return found | {"modern": [foreign], "modern-parts": [foreign, f"data.micro_batch={BATCH // 2}"]}


GAMES = games()


def small(game: str, *assignments: str, width: int = 4) -> Experiment:
    """The experiment of one of GAMES, with tiny networks and a batch of 16."""
    overrides = GAMES[game]
    family = overrides[0].partition("=")[2]
    sizes = [f"family.{field}={width}" for field in ("width", "critic_width") if _has(family, field)]
    sizes += ["family.labelled=20"] if _has(family, "labelled") else []
    return Experiment.load({"family": {"name": family}}).override(
        "family.latent=8", f"data.batch_size={BATCH}", *sizes, *overrides, *assignments
    )


def _has(family: str, field: str) -> bool:
    return field in family_class(family).model_fields
