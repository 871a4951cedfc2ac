"""The vocabulary of a game: `Batch`, `Player`, `Recipe`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
"""One sample's shape: (C, H, W) for images, (D,) for points."""


class Turn(NamedTuple):
    """One optimiser step of one player: the key of all random draws in it."""

    seed: int
    player: str
    number: int
    """How many turns the player had before this one."""
    size: int
    """Size of the global batch."""
    round: int = 0
    """How many rounds were played before this one: what a schedule takes."""
    first: int = 0
    """Where this pass begins in the global batch: a turn has several passes with `data.micro_batch`."""


class Batch(NamedTuple):
    """The data of one pass of a player's turn: this rank's slice of the global batch, or of a micro-batch of it."""

    real: Tensor  # (N, *shape), images in [-1, 1]
    labels: Tensor  # (N,), int64; -1 where the family hides them
    z: Tensor  # (N, latent), N(0, I) or uniform on [-1, 1), as `family.z` says
    mix: Tensor  # (N, 1, ...), uniform on [0, 1): one weight per sample
    turn: Turn


Loss = Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]]
OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
Schedule = Callable[[int], float]
"""A factor, or a setting's value, in the round that follows so many rounds; `gan_core.techniques.schedules` has the
usual ones."""


class Player(nn.Module):
    """One side of the game. Its forward pass is its *whole* loss, penalty included, for one backward pass.

    A player registers only what it trains; the networks of others are captured in the closure of its loss. So DDP
    around the player reduces each gradient exactly once. State other than weights (BEGAN's k) is a buffer of its net,
    so it is saved, resumed and moved with the net. Ranks do not exchange buffers: compute them from means over all
    ranks.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        optimizer: OptimizerFactory,
        *,
        steps: int = 1,
        sees_real: bool = False,
        after_step: Callable[[], None] | None = None,
        rate: Schedule | None = None,
        beta2: Schedule | None = None,
        max_gradient_norm: float | None = None,
    ) -> None:
        """`optimizer`: builds the player's own, so each may have its learning rate. `rate`: what the learning rate is
        multiplied by, by round. `beta2`: Adam's own, by round; None: that of the optimiser. `max_gradient_norm`: a
        longer gradient is shortened to it (Pascanu et al. 2013)."""
        super().__init__()
        self.net = net
        self.loss = loss
        self.optimizer_of = optimizer
        self.steps = steps
        self.sees_real = sees_real
        self.after_step = after_step or (lambda: None)
        self.rate = rate
        self.beta2 = beta2
        self.max_gradient_norm = max_gradient_norm
        self._optimizer: torch.optim.Optimizer | None = None

    def forward(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss on this rank's slice, a scalar, and named scalars to log (means over the slice)."""
        return self.loss(batch)

    def optimizer(self) -> torch.optim.Optimizer:
        """The player's optimiser. Built at the first call, after the net has been moved to its device."""
        if self._optimizer is None:
            self._optimizer = self.optimizer_of(self.net.parameters())
        return self._optimizer


@dataclass(frozen=True)
class Recipe:
    """A whole game: the players by name in their order of play (critic first), and the networks that are used.

    A round ends with the last player, which takes one step. Sampling, encoding and classifying use running averages of
    the networks.
    """

    players: Mapping[str, Player]
    generator: nn.Module
    """z (N, latent) -> samples (N, *shape); (z, labels (N,)) -> samples if conditional."""
    conditional: bool = False
    encoder: nn.Module | None = None
    """Samples (N, *shape) -> z (N, latent), deterministic."""
    classifier: nn.Module | None = None
    """Samples (N, *shape) -> logits (N, classes)."""
    labelled: int | None = None
    """How many images of the train set keep their label, an equal number of each class; None: all."""

    def images_per_round(self, batch_size: int) -> int:
        """Real images that all players together see in one round."""
        return batch_size * sum(player.steps for player in self.players.values() if player.sees_real)


def adversarial(
    critic: nn.Module,
    critic_loss: Loss,
    generator: nn.Module,
    generator_loss: Loss,
    optimizer: OptimizerFactory,
    n_critic: int,
    after_critic_step: Callable[[], None] | None = None,
    *,
    generator_optimizer: OptimizerFactory | None = None,
    rate: Schedule | None = None,
    beta2: Schedule | None = None,
    max_gradient_norm: float | None = None,
    conditional: bool = False,
    encoder: nn.Module | None = None,
    classifier: nn.Module | None = None,
    labelled: int | None = None,
) -> Recipe:
    """The two-player game: `n_critic` critic steps on real images, then one generator step, which also trains the
    encoder. `generator_optimizer`: the generator's own, such as one with another learning rate (Heusel et al. 2017);
    `rate`, `beta2` and `max_gradient_norm` are those of both players."""
    trained = generator if encoder is None else nn.ModuleDict({"generator": generator, "encoder": encoder})
    return Recipe(
        {
            "critic": Player(
                critic,
                critic_loss,
                optimizer,
                steps=n_critic,
                sees_real=True,
                after_step=after_critic_step,
                rate=rate,
                beta2=beta2,
                max_gradient_norm=max_gradient_norm,
            ),
            "generator": Player(
                trained,
                generator_loss,
                generator_optimizer or optimizer,
                rate=rate,
                beta2=beta2,
                max_gradient_norm=max_gradient_norm,
            ),
        },
        generator,
        conditional=conditional,
        encoder=encoder,
        classifier=classifier,
        labelled=labelled,
    )
