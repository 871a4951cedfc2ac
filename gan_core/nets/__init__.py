"""Networks: MLPs, DCGAN's convolutions, residual nets, InfoGAN's nets, autoencoders.

A generator maps (N, latent) to (N, *shape), a critic (N, *shape) to scores (N,). Convolutional nets take images whose
sides, from 8 to 512, can be halved until one is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from gan_core.family import place_of_net
from gan_core.nets.images.autoencoder import Autoencoder, conv_decoder, conv_encoder
from gan_core.nets.images.began import began_autoencoder, began_decoder
from gan_core.nets.images.biggan import biggan_critic, biggan_generator, orthogonal_regularisation
from gan_core.nets.images.dcgan import dcgan_critic, dcgan_encoder, dcgan_generator, initialised, joint_critic
from gan_core.nets.images.infogan import infogan_autoencoder, infogan_critic, infogan_encoder, infogan_generator
from gan_core.nets.images.r3gan import r3gan_critic, r3gan_generator
from gan_core.nets.images.resnet import resnet_critic, resnet_generator
from gan_core.nets.images.stylegan2 import StyleGenerator, stylegan2_critic
from gan_core.nets.mlp import mlp_critic, mlp_generator
from gan_core.nets.norm import GlobalBatchNorm, spectrally_normalised
from gan_core.recipe import Shape
from gan_core.settings import SettingsError, imported

__all__ = [
    "Autoencoder",
    "GlobalBatchNorm",
    "Nets",
    "StyleGenerator",
    "began_autoencoder",
    "began_decoder",
    "biggan_critic",
    "biggan_generator",
    "conv_decoder",
    "conv_encoder",
    "critic",
    "dcgan_critic",
    "dcgan_encoder",
    "dcgan_generator",
    "generator",
    "infogan_autoencoder",
    "infogan_critic",
    "infogan_encoder",
    "infogan_generator",
    "initialised",
    "joint_critic",
    "mlp_critic",
    "mlp_generator",
    "orthogonal_regularisation",
    "own_nets",
    "r3gan_critic",
    "r3gan_generator",
    "resnet_critic",
    "resnet_generator",
    "scores",
    "spectral_critic",
    "spectrally_normalised",
    "stylegan2_critic",
    "wasserstein_critic",
    "without_grad",
]


@runtime_checkable
class Nets(Protocol):
    """Networks of your own, for `family.net=package.module:Name`: a class without arguments, an object or a module.

    Weights are initialised from torch's global random state. For workers to agree with one, networks that are trained
    use `GlobalBatchNorm` where they normalise over the batch.
    """

    def generator(self, latent: int, shape: Shape, width: int) -> nn.Module:
        """(N, latent) -> (N, *shape), images in [-1, 1]. Raises SettingsError for a shape that it cannot make."""

    def critic(self, shape: Shape, width: int) -> nn.Module:
        """(N, *shape) -> scores (N,), each sample's independent of the others."""


def without_grad(generator: nn.Module, z: Tensor) -> Tensor:
    """The samples that a critic trains on: no gradient flows back into the generator."""
    with torch.no_grad():
        return generator(z).to(z.dtype)


def scores(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, *, apart: bool = False
) -> tuple[Tensor, Tensor]:
    """Scores of real and fake samples in one forward pass, for critics that treat each sample independently. `apart`:
    in one pass each, for critics that do not, such as one with BatchNorm."""
    if apart:
        return critic(real), critic(fake)
    both = critic(torch.cat([real, fake]))
    return both[: len(real)], both[len(real) :]


def generator(net: str, latent: int, shape: Shape, width: int) -> nn.Module:
    """A generator by name or by its place. `width`: channels next to the image, a 16th of the hidden units of an mlp.

    Raises ValueError for a shape that the network cannot generate.
    """
    own = own_nets(net)
    if own is not None:
        return own.generator(latent, shape, width)
    match _resolved(net, shape):
        case "mlp":
            return mlp_generator(latent, shape, hidden=16 * width)
        case "dcgan":
            return dcgan_generator(latent, shape, width)
        case "infogan":
            return infogan_generator(latent, shape, width)
        case _:
            return resnet_generator(latent, shape, width)


def critic(
    net: str,
    shape: Shape,
    width: int,
    *,
    batch_norm: bool = False,
    last_bias: bool = True,
    summed: bool = False,
) -> nn.Module:
    """A critic by name or by its place. Of ours: `batch_norm` is of infogan's, `summed` of the residual one, which sums
    over an image then instead of averaging."""
    own = own_nets(net)
    if own is not None:
        return own.critic(shape, width)
    match _resolved(net, shape):
        case "mlp":
            return mlp_critic(shape, hidden=16 * width, last_bias=last_bias)
        case "dcgan":
            return dcgan_critic(shape, width, batch_norm=False, last_bias=last_bias)
        case "infogan":
            return infogan_critic(shape, width, batch_norm=batch_norm, last_bias=last_bias)
        case _:
            return resnet_critic(shape, width, last_bias=last_bias, summed=summed)


def wasserstein_critic(net: str, shape: Shape, width: int, *, batch_norm: bool = False) -> nn.Module:
    """A critic without a last bias. A constant added to all scores changes no distance, so the gradient of a last bias
    would be rounding noise, which Adam turns into full steps."""
    return critic(net, shape, width, batch_norm=batch_norm, last_bias=False)


def spectral_critic(net: str, shape: Shape, width: int) -> nn.Module:
    """A critic by name or by its place, for `spectrally_normalised`; ours are without BatchNorm, and the residual one
    sums over an image. Miyato et al. 2018, arXiv:1802.05957, appendix B."""
    return critic(net, shape, width, summed=True)


def own_nets(net: str) -> Nets | None:
    """The user's networks of that name, or at the place `package.module:Name`; None if the name is one of ours."""
    place = place_of_net(net)
    if place is None:
        return None
    found = imported("family.net", place)
    found = found() if isinstance(found, type) else found
    if not isinstance(found, Nets):
        raise SettingsError(
            f"family.net={net} lacks generator(latent, shape, width) or critic(shape, width)",
            nearest="a class or a module that has both",
        )
    return found


def _resolved(net: str, shape: Shape) -> str:
    if net == "auto":
        return "dcgan" if len(shape) == 3 else "mlp"
    return net
