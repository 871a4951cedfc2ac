"""The only training loop: `rounds()` yields after each whole round of the game."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gan_core import ranks, streams
from gan_core.experiment import Experiment
from gan_core.recipe import Player, Shape
from gan_core.settings import SettingsError

DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


class DivergedError(RuntimeError):
    """A loss is no longer a finite number; the game cannot go on."""


@dataclass(frozen=True)
class Round:
    """One finished round. Its losses stay on the device until `scalars` reads them."""

    step: int
    """Generator updates so far."""
    images_seen: int
    losses: Mapping[str, Tensor]

    def scalars(self) -> dict[str, float]:
        """The round's losses, means over the global batch. Every rank must ask at the same round.

        Raises DivergedError if one is not finite.
        """
        names = list(self.losses)
        values = ranks.mean(torch.stack([self.losses[name].double() for name in names])).tolist()
        for name, value in zip(names, values, strict=True):
            if value != value or abs(value) == float("inf"):
                raise DivergedError(f"{name} is {value} at step {self.step}")
        return dict(zip(names, values, strict=True))


class Game:
    """All that changes while an experiment is played: players, optimisers, the generator's average, step."""

    def __init__(self, experiment: Experiment, shape: Shape, device: torch.device | str = "cpu") -> None:
        """Builds the nets from the seed alone. Raises SettingsError if family, data and workers do not fit."""
        self.experiment = experiment
        self.shape = shape
        self.device = torch.device(device)
        self.dtype = DTYPES[experiment.compute.precision]
        self.step = 0
        workers, batch_size = ranks.world_size(), experiment.data.batch_size
        if batch_size % workers:
            right = max(batch_size // workers, 1) * workers
            raise SettingsError(
                f"data.batch_size={batch_size} cannot be shared by {workers} workers; nearest: data.batch_size={right}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(experiment.seed)
            recipe = experiment.family.recipe(shape)
        self.players = {name: player.to(self.device, self.dtype) for name, player in recipe.players.items()}
        self.generator = recipe.generator.to(self.device, self.dtype)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.optimizers = {name: player.optimizer() for name, player in self.players.items()}
        self.images_per_round = recipe.images_per_round(batch_size)

    @property
    def images_seen(self) -> int:
        """Real images shown so far."""
        return self.step * self.images_per_round

    @property
    def last_round(self) -> int:
        """The step at which the experiment's budget ends."""
        return self.experiment.budget.last_round(self.images_per_round)

    @torch.no_grad()
    def sample(self, z: Tensor) -> Tensor:
        """Samples of the averaged generator for z (N, latent): (N, *shape), images in [-1, 1]."""
        with self.autocast():
            return self.average(z).to(self.dtype)

    def autocast(self) -> torch.autocast:
        """The arithmetic of the networks under the experiment's precision."""
        enabled = self.experiment.compute.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    @torch.no_grad()
    def update_average(self) -> None:
        """One round's step of the generator's running average, quicker at the start (Adam's and TF's warm-up)."""
        ema = self.experiment.family.ema
        decay = min(ema, (1 + self.step) / (10 + self.step)) if ema else 0.0
        torch._foreach_lerp_(_floats(self.average), _floats(self.generator), 1 - decay)


def _floats(net: nn.Module) -> list[Tensor]:
    """Parameters and the buffers that can be averaged (BatchNorm's statistics, not its counter)."""
    return [tensor.detach() for tensor in (*net.parameters(), *net.buffers()) if tensor.is_floating_point()]


def rounds(game: Game, images: Tensor, labels: Tensor) -> Iterator[Round]:
    """Plays from the game's step to the end of its budget; yields after each round, the game then consistent.

    `images` (M, *shape) and `labels` (M,) are the whole train set on the game's device. With a process group
    every rank plays its slice of the same global batches.
    """
    modules = {name: _distributed(player) for name, player in game.players.items()}
    while game.step < game.last_round:
        losses: dict[str, Tensor] = {}
        for name, player in game.players.items():
            _freeze_others(game, player)
            for step in range(player.steps):
                index = game.step * player.steps + step
                losses |= _turn(game, name, modules[name], index, images, labels)
        game.step += 1
        game.update_average()
        yield Round(game.step, game.images_seen, losses)


def _turn(game: Game, name: str, module: nn.Module, index: int, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """One optimiser step of one player. Returns its detached scalars by their metric names."""
    settings, optimizer = game.experiment, game.optimizers[name]
    batch = streams.turn(settings.seed, name, index, settings.data.batch_size, settings.family.latent, images, labels)
    optimizer.zero_grad(set_to_none=True)
    with game.autocast():
        loss, scalars = module(batch)
    loss.backward()
    optimizer.step()
    game.players[name].after_step()
    return {f"loss/{name}": loss.detach(), **{key: value.detach() for key, value in scalars.items()}}


def _freeze_others(game: Game, player: Player) -> None:
    """Nobody computes gradients for a player whose turn it is not."""
    for other in game.players.values():
        other.requires_grad_(other is player)


def _distributed(player: Player) -> nn.Module:
    if ranks.world_size() == 1:
        return player
    player.requires_grad_(True)
    with warnings.catch_warnings():  # torch 2.15 renames `broadcast_buffers`; 2.11 does not know the new name
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(player, broadcast_buffers=False, gradient_as_bucket_view=True)
