"""InfoGAN's networks (Chen et al. 2016, arXiv:1606.03657, appendix C.1) as "Are GANs Created Equal?" (Lucic et al.
2018, arXiv:1711.10337) gives them to all of its models: one way down from images and one way up, of two 4x4
convolutions and two linear layers each.

As in the study's code, github.com/google/compare_gan (2018), src/gans/abstract_gan.py, BEGAN.py and VAE.py: weights are
normal with deviation 0.02, biases zero. A layer before BatchNorm has no bias, which BatchNorm would remove. The study's
images are in [0, 1] and its nets end in a sigmoid; here the sigmoid is mapped to [-1, 1], where the images are.
`width` is the number of channels next to the image, 64 in the study, with twice as many in the next layer and 16 times
as many units in the linear one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gan_core.nets.images.autoencoder import Autoencoder
from gan_core.nets.layers import Score, halvings
from gan_core.nets.norm import GlobalBatchNorm
from gan_core.recipe import Shape
from gan_core.settings.image_size import LARGEST_SIDE

_LEAK = 0.2
_HALVINGS = 2


class SignedSigmoid(nn.Module):
    """2 sigmoid(x) - 1, computed as tanh(x / 2): a sigmoid for images in [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 2)


def infogan_generator(latent: int, shape: Shape, width: int, *, leak: float = _LEAK) -> nn.Module:
    """(N, latent) -> images in [-1, 1]: linear layers to 16 `width` units and to a quarter of the sides, two transposed
    convolutions, BatchNorm except on the output. `leak`: slope of the rectifiers below 0; the study's VAE has 0."""
    units = 16 * width
    layers = [*_linear(latent, units, leak, normalised=True), *_upwards(units, shape, width, leak, normalised=True)]
    return _initialised(nn.Sequential(*layers))


def infogan_critic(shape: Shape, width: int, *, batch_norm: bool, last_bias: bool = True) -> nn.Module:
    """Images -> scores (N,): two strided convolutions and a linear layer of 16 `width` units, LeakyReLU(0.2).

    With `batch_norm` the second convolution and the linear layer have BatchNorm, always by the batch's own statistics:
    give it real and fake images separately.
    """
    layers = [*_downwards(shape, width, batch_norm, tracked=False), nn.Linear(16 * width, 1, bias=last_bias), Score()]
    return _initialised(nn.Sequential(*layers))


def infogan_encoder(shape: Shape, out: int, width: int, *, batch_norm: bool) -> nn.Module:
    """Images -> (N, out): the critic with another head, as the study's VAE has it."""
    layers = [*_downwards(shape, width, batch_norm, tracked=True), nn.Linear(16 * width, out)]
    return _initialised(nn.Sequential(*layers))


def infogan_autoencoder(shape: Shape, hidden: int, width: int, *, batch_norm: bool) -> Autoencoder:
    """Images -> their reconstructions from `hidden` numbers, which the study's BEGAN has as its critic: two strided
    convolutions without a non-linearity after the second, a linear layer, and the way back."""
    channels, (height, across) = 2 * width, halvings(shape, LARGEST_SIDE, _HALVINGS)[1]
    encoder = nn.Sequential(
        nn.Conv2d(shape[0], width, 4, 2, 1),
        nn.LeakyReLU(_LEAK),
        nn.Conv2d(width, channels, 4, 2, 1),
        nn.Flatten(),
        *_linear(channels * height * across, hidden, _LEAK, normalised=batch_norm, tracked=False),
    )
    decoder = nn.Sequential(*_upwards(hidden, shape, width, _LEAK, normalised=batch_norm, tracked=False))
    return Autoencoder(_initialised(encoder), _initialised(decoder))


def _downwards(shape: Shape, width: int, normalised: bool, tracked: bool) -> list[nn.Module]:
    """Layers from images to features (N, 16 width)."""
    channels, size = 2 * width, halvings(shape, LARGEST_SIDE, _HALVINGS)[1]
    return [
        nn.Conv2d(shape[0], width, 4, 2, 1),
        nn.LeakyReLU(_LEAK),
        nn.Conv2d(width, channels, 4, 2, 1, bias=not normalised),
        *_normalised(channels, normalised, tracked),
        nn.LeakyReLU(_LEAK),
        nn.Flatten(),
        *_linear(channels * math.prod(size), 16 * width, _LEAK, normalised, tracked),
    ]


def _upwards(
    inputs: int, shape: Shape, width: int, leak: float, normalised: bool, tracked: bool = True
) -> list[nn.Module]:
    """Layers from (N, inputs) to images."""
    channels, size = 2 * width, halvings(shape, LARGEST_SIDE, _HALVINGS)[1]
    return [
        *_linear(inputs, channels * math.prod(size), leak, normalised, tracked),
        nn.Unflatten(1, (channels, *size)),
        nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=not normalised),
        *_normalised(width, normalised, tracked),
        nn.LeakyReLU(leak),
        nn.ConvTranspose2d(width, shape[0], 4, 2, 1),
        SignedSigmoid(),
    ]


def _linear(inputs: int, outputs: int, leak: float, normalised: bool, tracked: bool = True) -> list[nn.Module]:
    return [
        nn.Linear(inputs, outputs, bias=not normalised),
        *_normalised(outputs, normalised, tracked),
        nn.LeakyReLU(leak),
    ]


def _normalised(channels: int, normalised: bool, tracked: bool) -> list[nn.Module]:
    return [GlobalBatchNorm(channels, track_running_stats=tracked)] if normalised else []


def _initialised(net: nn.Sequential) -> nn.Sequential:
    for module in net:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
