"""Convolutional encoder and decoder of images, and an autoencoder of any two such networks.

Weights are normal, with variance 2 / inputs before a ReLU (He et al. 2015, arXiv:1502.01852, equation 10), else
1 / inputs. Biases are zero.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from gan_core.nets.layers import halvings
from gan_core.recipe import Shape


class Autoencoder(nn.Module):
    """x (N, *shape) -> decoder(encoder(x)), its reconstruction (N, *shape)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def _channels(shape: Shape, width: int) -> tuple[list[int], tuple[int, int]]:
    """Channels from the image inwards, doubling, and the size of the innermost map: sides are halved until one is at
    most 8, and at least twice."""
    count, size = halvings(shape, largest=8, least=2)
    return [shape[0], *(width * 2**level for level in range(count))], size


def conv_encoder(shape: Shape, out: int, width: int) -> nn.Module:
    """Images -> (N, out): 5x5 convolutions of stride 2 with ReLU, from `width` channels on and doubling; a linear head.

    `width` 16 gives 16 and 32 channels up to 32x32. For a VAE the head has 2 latent outputs: mean and log-variance.
    """
    channels, size = _channels(shape, width)
    layers: list[nn.Module] = []
    for outer, inner in pairwise(channels):
        layers += [_he(nn.Conv2d(outer, inner, 5, 2, 2), outer * 25), nn.ReLU()]
    features = channels[-1] * math.prod(size)
    return nn.Sequential(*layers, nn.Flatten(), _he(nn.Linear(features, out), features, gain=1.0))


def conv_decoder(latent: int, shape: Shape, width: int, *, bounded: bool = True) -> nn.Module:
    """(N, latent) -> images in [-1, 1]: the encoder mirrored, with transposed convolutions, then tanh if `bounded`."""
    channels, size = _channels(shape, width)
    layers: list[nn.Module] = [
        _he(nn.Linear(latent, channels[-1] * math.prod(size)), latent),
        nn.ReLU(),
        nn.Unflatten(1, (channels[-1], *size)),
    ]
    for inner, outer in pairwise(reversed(channels[1:])):
        layers += [_he(*_transposed(inner, outer)), nn.ReLU()]
    layers += [_he(*_transposed(channels[1], shape[0]), gain=1.0), *([nn.Tanh()] if bounded else [])]
    return nn.Sequential(*layers)


def _transposed(inputs: int, outputs: int) -> tuple[nn.ConvTranspose2d, float]:
    """The layer, and the mean number of terms in the sum of an output pixel: a quarter of the kernel's."""
    return nn.ConvTranspose2d(inputs, outputs, 5, 2, 2, output_padding=1), inputs * 25 / 4


def _he(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, inputs: float, gain: float = 2.0) -> nn.Module:
    nn.init.normal_(layer.weight, 0.0, math.sqrt(gain / inputs))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
