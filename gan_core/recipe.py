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
    """Whose turn it is, and which: the key of all that is drawn in it."""

    seed: int
    player: str
    number: int
    """The player's turns before this one, over all its steps and rounds."""
    size: int
    """Of the global batch."""


class Batch(NamedTuple):
    """What one player sees in one turn: this rank's slice of the global batch."""

    real: Tensor  # (N, *shape), images in [-1, 1]
    labels: Tensor  # (N,), int64; -1 where the family hides them
    z: Tensor  # (N, latent), N(0, I)
    mix: Tensor  # (N, 1, ...), uniform on [0, 1): one weight a sample
    turn: Turn


Loss = Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]]
OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


class Player(nn.Module):
    """One side of the game. Its forward is its *whole* loss, penalty included, for one backward.

    It registers only what it trains; the nets of the others live in its loss's closure. So DDP around the
    player reduces each gradient once and exactly. What it keeps beside its weights (BEGAN's k) is a buffer of its
    net: saved, resumed and moved with it. Ranks do not exchange buffers, so it must follow from means over all ranks.
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
    ) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.optimizer_of = optimizer
        self.steps = steps
        self.sees_real = sees_real
        self.after_step = after_step or (lambda: None)
        self._optimizer: torch.optim.Optimizer | None = None

    def forward(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss on this rank's slice, a scalar, and named scalars worth logging (means over the slice)."""
        return self.loss(batch)

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of what this player trains, made when first asked for: where the net is by then."""
        if self._optimizer is None:
            self._optimizer = self.optimizer_of(self.net.parameters())
        return self._optimizer


@dataclass(frozen=True)
class Recipe:
    """A whole game: the players by name in their order of play (critic first), and what is sampled.

    A round ends with the last player, which takes one step in it. The running averages of generator, encoder and
    classifier are what is sampled, scored and asked.
    """

    players: Mapping[str, Player]
    generator: nn.Module
    """z (N, latent) -> samples (N, *shape); (z, labels (N,)) -> samples if conditional."""
    conditional: bool = False
    encoder: nn.Module | None = None
    """Samples (N, *shape) -> z (N, latent), without noise."""
    classifier: nn.Module | None = None
    """Samples (N, *shape) -> logits (N, classes)."""
    labelled: int | None = None
    """How many images of the train set keep their label, an equal share of each class; None: all."""

    def images_per_round(self, batch_size: int) -> int:
        """Real images that one round shows to the players that look at them."""
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
    conditional: bool = False,
    encoder: nn.Module | None = None,
    classifier: nn.Module | None = None,
    labelled: int | None = None,
) -> Recipe:
    """The two-player game: `n_critic` critic steps on real images, then one generator step, in which the encoder is
    trained too."""
    against = generator if encoder is None else nn.ModuleDict({"generator": generator, "encoder": encoder})
    return Recipe(
        {
            "critic": Player(
                critic, critic_loss, optimizer, steps=n_critic, sees_real=True, after_step=after_critic_step
            ),
            "generator": Player(against, generator_loss, optimizer),
        },
        generator,
        conditional=conditional,
        encoder=encoder,
        classifier=classifier,
        labelled=labelled,
    )
