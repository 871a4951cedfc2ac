"""Networks: MLPs, DCGAN's convolutions, residual nets, autoencoders.

A generator maps (N, latent) to (N, *shape), a critic (N, *shape) to scores (N,). Convolutional nets take images whose
sides, from 8 to 512, can be halved until one is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from gan_core.family import NetName
from gan_core.nets.autoencoder import Autoencoder, conv_decoder, conv_encoder
from gan_core.nets.began import began_autoencoder, began_decoder
from gan_core.nets.dcgan import dcgan_critic, dcgan_encoder, dcgan_generator, initialised, joint_critic
from gan_core.nets.mlp import mlp_critic, mlp_generator
from gan_core.nets.norm import GlobalBatchNorm, spectrally_normalised
from gan_core.nets.resnet import resnet_critic, resnet_generator
from gan_core.recipe import Shape

__all__ = [
    "Autoencoder",
    "GlobalBatchNorm",
    "began_autoencoder",
    "began_decoder",
    "conv_decoder",
    "conv_encoder",
    "dcgan_critic",
    "dcgan_encoder",
    "dcgan_generator",
    "generator",
    "initialised",
    "joint_critic",
    "mlp_critic",
    "mlp_generator",
    "resnet_critic",
    "resnet_generator",
    "scores",
    "spectrally_normalised",
    "wasserstein_critic",
    "without_grad",
]


def without_grad(generator: nn.Module, z: Tensor) -> Tensor:
    """The samples that a critic trains on: no gradient flows back into the generator."""
    with torch.no_grad():
        return generator(z).to(z.dtype)


def scores(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of real and fake samples in one forward pass, for critics that treat each sample independently."""
    both = critic(torch.cat([real, fake]))
    return both[: len(real)], both[len(real) :]


def generator(net: NetName, latent: int, shape: Shape, width: int) -> nn.Module:
    """A generator by name. `width`: channels next to the image (dcgan, resnet), a 16th of the hidden units (mlp).

    Raises ValueError for a shape that the network cannot generate.
    """
    match _resolved(net, shape):
        case "mlp":
            return mlp_generator(latent, shape, hidden=16 * width)
        case "dcgan":
            return dcgan_generator(latent, shape, width)
        case "resnet":
            return resnet_generator(latent, shape, width)


def wasserstein_critic(net: NetName, shape: Shape, width: int) -> nn.Module:
    """A critic by name, without BatchNorm and without a last bias.

    A constant added to all scores changes no distance. So the gradient of a last bias would be rounding noise, which
    Adam turns into full steps.
    """
    match _resolved(net, shape):
        case "mlp":
            return mlp_critic(shape, hidden=16 * width, last_bias=False)
        case "dcgan":
            return dcgan_critic(shape, width, batch_norm=False, last_bias=False)
        case "resnet":
            return resnet_critic(shape, width, last_bias=False)


def _resolved(net: NetName, shape: Shape) -> Literal["mlp", "dcgan", "resnet"]:
    if net == "auto":
        return "dcgan" if len(shape) == 3 else "mlp"
    return net
