"""A GAN and networks of one's own, as a notebook's cell would define them."""

from __future__ import annotations

import torch
from torch import nn

from gan_core.family import Family, LearningRate
from gan_core.optimizers import adam
from gan_core.recipe import adversarial


def defined() -> tuple[type[Family], type]:
    """New classes, which no other process can import."""

    class Tiny(Family):
        """Least squares on a linear critic."""

        rate: LearningRate = 1e-3
        lr: LearningRate = 1e-3
        net: str = "auto"

        def recipe(self, shape, classes):
            from gan_core import nets

            generator = nets.generator(self.net, self.latent, shape, 2)
            critic = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 1), nn.Flatten(0))

            def critic_loss(batch):
                real, fake = nets.scores(critic, batch.real, nets.without_grad(generator, batch.z))
                return (real - 1).square().mean() + fake.square().mean(), {}

            def generator_loss(batch):
                return (critic(generator(batch.z)) - 1).square().mean(), {}

            return adversarial(critic, critic_loss, generator, generator_loss, adam(self.rate, 0.5, 0.9), 1)

    class Nets:
        """A generator of so many layers."""

        def __init__(self, depth: int) -> None:
            self.depth = depth

        def generator(self, latent, shape, width):
            size = torch.Size(shape).numel()
            hidden = [nn.Linear(latent, latent) for _ in range(self.depth)]
            return nn.Sequential(*hidden, nn.Linear(latent, size), nn.Tanh(), nn.Unflatten(1, shape))

        def critic(self, shape, width):
            return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 1), nn.Flatten(0))

    return Tiny, Nets
