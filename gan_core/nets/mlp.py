"""Fully connected networks for points and images. Goodfellow et al. 2014.

Weights and biases have PyTorch's default, uniform within 1 / sqrt(inputs), because the paper does not specify them.
"""

from __future__ import annotations

import math

from torch import nn

from gan_core.nets.layers import Score
from gan_core.recipe import Shape


def mlp_generator(latent: int, shape: Shape, hidden: int) -> nn.Module:
    """latent -> hidden -> hidden -> shape; tanh for images, linear for points. Goodfellow et al. 2014."""
    layers = [
        nn.Linear(latent, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, math.prod(shape)),
        *([nn.Tanh()] if len(shape) == 3 else []),
        nn.Unflatten(1, shape),
    ]
    return nn.Sequential(*layers)


def mlp_critic(shape: Shape, hidden: int, *, last_bias: bool = True) -> nn.Module:
    """shape -> hidden -> hidden -> score, LeakyReLU(0.2)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1, bias=last_bias),
        Score(),
    )
