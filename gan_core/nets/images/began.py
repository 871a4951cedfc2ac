"""BEGAN's autoencoder, and its decoder, which is also the architecture of the generator. Berthelot et al. 2017,
arXiv:1703.10717, without the optional skip connections and vanishing residuals.

3x3 convolutions, two at each size, exponential linear units, no normalisation. Weights are uniform as in Glorot &
Bengio 2010 and biases zero, because the paper does not specify them.
"""

from __future__ import annotations

import math

from torch import nn

from gan_core.nets.images.autoencoder import Autoencoder
from gan_core.nets.layers import Upsampled, glorot, halvings
from gan_core.recipe import Shape


def began_decoder(latent: int, shape: Shape, width: int, *, bounded: bool = True) -> nn.Module:
    """(N, latent) -> images in [-1, 1]: a linear map to 8x8 (7x7 for 28x28), then nearest-neighbour upsampling.

    `width`: channels of all convolutions, the paper's n (64 or 128). The paper does not say how images are bounded;
    here it is by tanh, unless `bounded` is false.
    """
    doublings, size = halvings(shape, largest=8)
    layers: list[nn.Module] = [glorot(nn.Linear(latent, width * math.prod(size))), nn.Unflatten(1, (width, *size))]
    layers += [*_convolution(width, width), *_convolution(width, width)]
    for _ in range(doublings):
        layers += [glorot(Upsampled(width, width, 3, padding=1)), nn.ELU(), *_convolution(width, width)]
    layers += [glorot(nn.Conv2d(width, shape[0], 3, padding=1)), *([nn.Tanh()] if bounded else [])]
    return nn.Sequential(*layers)


def began_autoencoder(shape: Shape, hidden: int, width: int) -> Autoencoder:
    """Images -> their reconstructions from `hidden` numbers: BEGAN's discriminator.

    At each halving a convolution of stride 2 adds `width` channels. A linear map leads from 8x8 (7x7) to the hidden
    state, and the decoder's linear map from it; neither is followed by a non-linearity. Reconstructions are not
    bounded: where a tanh saturates, as on a black background, the critic cannot raise the error of fakes any more.
    With the generator this has 17.1 million parameters for 128x128, n = 128 and 64 hidden numbers; the paper states
    17.3 million.
    """
    count, size = halvings(shape, largest=8)
    layers = [*_convolution(shape[0], width), *_convolution(width, width)]
    for level in range(1, count + 1):
        narrow, wide = level * width, (level + 1) * width
        layers += [*_convolution(narrow, narrow), *_convolution(narrow, wide, stride=2)]
    features = (count + 1) * width * math.prod(size)
    encoder = nn.Sequential(*layers, nn.Flatten(), glorot(nn.Linear(features, hidden)))
    return Autoencoder(encoder, began_decoder(hidden, shape, width, bounded=False))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [glorot(nn.Conv2d(inputs, outputs, 3, stride, 1)), nn.ELU()]
