"""A record of some rounds: losses, gradients of each turn, and the state that they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from torch import Tensor

from gan_core.loop import Game, rounds
from gan_core.recipe import Player
from gan_core.testing.games import state


@dataclass
class Record:
    """What some rounds of a game were."""

    losses: list[dict[str, float]] = field(default_factory=list)
    """Logged scalars of each round."""
    grads: list[tuple[str, dict[str, Tensor]]] = field(default_factory=list)
    """The player of each turn, and its gradient by the weight's name."""
    states: list[dict[str, Tensor]] = field(default_factory=list)
    """All tensors of the game after each round."""


def record(game: Game, images: Tensor, labels: Tensor, count: int) -> Record:
    """Plays `count` rounds."""
    found = Record()
    with recorded_gradients(game, found.grads):
        for one in islice(rounds(game, images, labels), count):
            found.losses.append(one.scalars())
            found.states.append(state(game))
    return found


@contextmanager
def recorded_gradients(game: Game, into: list[tuple[str, dict[str, Tensor]]]) -> Iterator[None]:
    """Each turn adds its player's name and gradient to a list."""
    hooks = [
        optimizer.register_step_pre_hook(partial(_keep, name, game.players[name], into))
        for name, optimizer in game.optimizers.items()
    ]
    yield
    for hook in hooks:
        hook.remove()


def _keep(name: str, player: Player, into: list[tuple[str, dict[str, Tensor]]], *_: Any) -> None:
    weights = player.named_parameters()
    into.append((name, {key: weight.grad.clone() for key, weight in weights if weight.grad is not None}))
