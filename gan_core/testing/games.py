"""Small games: made, played, and compared by all of their tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Experiment
from gan_core.family import Family
from gan_core.loop import Game, Round, rounds
from gan_core.settings import SettingsError

BATCH = 16
_SMALL = {"width": 4, "critic_width": 4, "latent": 8, "labelled": 20}


def small_family(family: Family) -> Family:
    """The family with small networks. Fields that were set keep their values."""
    given: dict[str, Any] = {name: getattr(family, name) for name in family.model_fields_set}
    for field, value in _SMALL.items():
        if field in type(family).model_fields and field not in given:
            try:
                type(family).load({**given, field: value})
            except SettingsError:
                continue
            given[field] = value
    return type(family).load(given)


def dataset(experiment: Experiment) -> Dataset:
    """The real samples of an experiment."""
    return data.load(experiment.data)


def new_game(experiment: Experiment) -> Game:
    """A game before its first round."""
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


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that are not the same bits, or are in one state only."""
    return [key for key in dict.fromkeys((*one, *other)) if not _same(one.get(key), other.get(key))]


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape and torch.equal(one, other)
