"""Small games that many tests play. Worker processes import this, too, so it does not import pytest."""

from __future__ import annotations

import copy
from itertools import islice

import torch
from torch import Tensor, nn

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Experiment
from gan_core.family import family_class, family_names
from gan_core.loop import Game, Round, rounds
from tune_spaces.fields import field_range

BATCH = 16
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


def dataset(experiment: Experiment) -> Dataset:
    return data.load(experiment.data)


def new_game(experiment: Experiment) -> Game:
    real = dataset(experiment)
    return Game(experiment, real.shape, classes=real.classes)


def play(game: Game, count: int | None = None) -> list[Round]:
    """Plays `count` rounds, or to the end of the budget."""
    real = dataset(game.experiment).to(game.device, game.dtype)
    return list(islice(rounds(game, real.images, real.labels), count))


def asked(game: Game, count: int) -> tuple[Tensor, ...]:
    """Inputs of the game's generator for `count` samples: z, and labels if it is conditional."""
    draw = torch.Generator().manual_seed(1)
    z = torch.randn(count, game.experiment.family.latent, generator=draw, dtype=game.dtype)
    return (z, torch.randint(game.classes, (count,), generator=draw)) if game.conditional else (z,)


def state(game: Game) -> dict[str, Tensor]:
    """Every tensor of a game by name: networks, buffers, optimisers, averages."""
    found: dict[str, Tensor] = {}
    for name, net in game.averages.items():
        found |= _of(net, f"average.{name}") | _of(game.current[name], f"current.{name}")
    for name, player in game.players.items():
        found |= _of(player, name)
        for index, values in game.optimizers[name].state_dict()["state"].items():
            found |= {f"{name}.optimizer.{index}.{key}": value for key, value in values.items()}
    return copy.deepcopy(found)


def _of(net: nn.Module, name: str) -> dict[str, Tensor]:
    tensors = (*net.named_parameters(), *net.named_buffers())
    return {f"{name}.{key}": value.detach() for key, value in tensors}
