"""Terms of a loss that train nothing: their number changes with a setting, and no gradient does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gan_core.experiment import Experiment
from gan_core.loop import Game
from gan_core.recipe import Turn
from gan_core.settings import SettingsError
from gan_core.streams import draw_batches
from gan_core.testing.fault import Fault


def penalty_faults(
    experiment: Experiment, new_game: Callable[[Experiment], Game], images: Tensor, labels: Tensor
) -> Iterator[Fault]:
    """A fault for each weight of a term that is added to a loss without a gradient."""
    family = experiment.family
    before = _first_turns(new_game(experiment), images, labels)
    for name, field in type(family).model_fields.items():
        if field.annotation is not float:
            continue
        values = {key: value for key, value in family.model_dump().items() if key != "name"}
        try:
            other = type(family).load({**values, name: values[name] / 2 or 0.5})
        except SettingsError:
            continue
        changed = _first_turns(new_game(experiment.model_copy(update={"family": other})), images, labels)
        for player in before.keys() & changed.keys():
            (loss, grads), (other_loss, other_grads) = before[player], changed[player]
            if not torch.equal(loss, other_loss) and all(map(torch.equal, grads, other_grads)):
                wrong = f"family.{name} changes the loss of {player} and no gradient: its term trains nothing"
                yield Fault("gradient", wrong, _GRAPH)


_GRAPH = "objectives.gradient_penalty; or torch.autograd.grad(..., create_graph=True), without detach()"


def _first_turns(game: Game, images: Tensor, labels: Tensor) -> dict[str, tuple[Tensor, list[Tensor]]]:
    """Loss and gradient of each player in its first turn, from the weights that the game begins with."""
    found: dict[str, Any] = {}
    for name, player in game.players.items():
        for other in game.players.values():
            other.requires_grad_(other is player)
        turn = Turn(game.experiment.seed, name, 0, game.experiment.data.batch_size)
        family = game.experiment.family
        (batch,) = draw_batches(turn, family.latent, images, labels, z=family.z)
        try:
            loss, _ = player(batch)
        except Exception:  # a loss may need what an earlier turn leaves, such as an optimiser's state
            continue
        grads = torch.autograd.grad(loss, list(player.parameters()), allow_unused=True)
        found[name] = loss.detach(), [one for one in grads if one is not None]
    return found
