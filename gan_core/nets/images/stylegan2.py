"""StyleGAN2's generator and critic. Karras et al. 2020, arXiv:1912.04958.

`width` is the number of channels next to the image. It doubles at each halving of the sides, up to `channel_max`, until
the shorter side is at most 7. It is the published code's channel_base over the image's side: 128 for configuration F at
256x256.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_core import streams
from gan_core.nets.images.stylegan2_layers import EqualConv, EqualLinear, MinibatchDeviation, StyledConv, ToImage
from gan_core.nets.layers import Score, halvings
from gan_core.nets.resampling import upsampled
from gan_core.recipe import Shape, Turn

_MAPPING_RATE = 0.01
_MEAN_DECAY = 0.998


def _channels(levels: int, width: int, channel_max: int) -> list[int]:
    """Channels from the image down to the smallest map."""
    return [min(width * 2**level, channel_max) for level in range(levels + 1)]


class Mapping(nn.Module):
    """z (N, latent) -> w (N, latent): z of unit mean square, then layers that learn at a hundredth of the rate."""

    def __init__(self, latent: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(EqualLinear(latent, latent, rate=_MAPPING_RATE, active=True) for _ in range(layers))
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt())


class StyleGenerator(nn.Module):
    """A learnt constant, and two modulated convolutions at each size; at each size colours are added to the image so
    far, enlarged ("skip", figure 7b). The output is linear.

    `w_mean` (latent,) is the running mean of w, which truncation draws towards.
    """

    def __init__(self, latent: int, shape: Shape, width: int, channel_max: int = 512, mapping_layers: int = 2) -> None:
        super().__init__()
        levels, size = halvings(shape, largest=7)
        channels = _channels(levels, width, channel_max)[::-1]
        self.mapping = Mapping(latent, mapping_layers)
        self.constant = nn.Parameter(torch.randn(1, channels[0], *size))
        layers = [StyledConv(channels[0], channels[0], latent, 0)]
        for inputs, outputs in pairwise(channels):
            layers.append(StyledConv(inputs, outputs, latent, len(layers), up=True))
            layers.append(StyledConv(outputs, outputs, latent, len(layers)))
        self.layers = nn.ModuleList(layers)
        self.to_image = nn.ModuleList(ToImage(count, shape[0], latent) for count in channels)
        self.w_mean: Tensor
        self.register_buffer("w_mean", torch.zeros(latent))

    @property
    def places(self) -> int:
        """How many styles an image has: one a convolution, and that of the last colours. Other colours have the style
        of the convolution that follows."""
        return len(self.layers) + 1

    def forward(self, z: Tensor, truncation: float | None = None) -> Tensor:
        """Samples (N, *shape) of z (N, latent), without noise, cut to [-1, 1].

        `truncation`: psi of Karras et al. 2019, arXiv:1812.04948, appendix B. w becomes mean + psi (w - mean): at 1
        nothing changes, at 0 all samples are the mean's.
        """
        w = self.mapping(z)
        if truncation is not None:
            w = torch.lerp(self.w_mean.to(w.dtype), w, truncation)
        return self.images(w[:, None].expand(-1, self.places, -1), None).clamp(-1, 1)

    def images(self, styles: Tensor, turn: Turn | None) -> Tensor:
        """Images (N, *shape) of styles (N, places, latent), with the noise of the turn."""
        w = styles.unbind(1)
        # torch.export takes `shape`, but not `len`, of any number of rows.
        x = self.layers[0](self.constant.expand(styles.shape[0], -1, -1, -1), w[0], turn)
        colours = iter(self.to_image)
        image = next(colours)(x, w[1])
        for first, to_image in zip(range(1, len(w), 2), colours, strict=False):
            x = self.layers[first](x, w[first], turn)
            x = self.layers[first + 1](x, w[first + 1], turn)
            image = upsampled(image) + to_image(x, w[first + 2])
        return image

    def styles(self, z: Tensor, turn: Turn, mixing: float) -> Tensor:
        """Styles (N, places, latent) of z (N, latent), for training.

        With the probability `mixing` a sample has the styles of a second z from a random place on. Karras et al. 2019,
        section 3.1.
        """
        if not mixing:
            return self.mapping(z)[:, None].expand(-1, self.places, -1)
        w, other = self.mapping(torch.cat([z, streams.normal(turn, "mixed z", z)])).chunk(2)  # (N, latent) each
        drawn, cut = streams.uniform(turn, "mixing", z.new_empty(len(z), 2)).unbind(1)
        cut = torch.where(drawn < mixing, 1 + (cut * (self.places - 1)).floor(), self.places)  # from 1 to places
        mixed = torch.arange(self.places, device=z.device) >= cut[:, None]  # (N, places)
        return torch.where(mixed[:, :, None], other[:, None], w[:, None])

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Moves `w_mean` towards `w` (latent,), the mean of one global batch."""
        self.w_mean.lerp_(w.to(self.w_mean.dtype), 1 - _MEAN_DECAY)


class _Halving(nn.Module):
    """A critic's block: two convolutions, the second of which halves the sides; the residual one adds a 1x1
    convolution past them."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool) -> None:
        super().__init__()
        gain = math.sqrt(0.5) if residual else 1.0
        self.longer = nn.Sequential(EqualConv(inputs, inputs, 3), EqualConv(inputs, outputs, 3, down=True, gain=gain))
        self.shorter = EqualConv(inputs, outputs, 1, active=False, down=True, gain=gain) if residual else None

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        longer = self.longer(x)
        return longer if self.shorter is None else longer + self.shorter(x)


def stylegan2_critic(
    shape: Shape, width: int, channel_max: int = 512, *, residual: bool = True, group: int = 4
) -> nn.Module:
    """Images (N, *shape) -> scores (N,): blocks down to the smallest map, the deviation within groups of `group`
    samples (1: none), a convolution, two linear layers."""
    levels, size = halvings(shape, largest=7)
    channels = _channels(levels, width, channel_max)
    last = channels[-1]
    compared = [MinibatchDeviation(group)] if group > 1 else []
    return nn.Sequential(
        EqualConv(shape[0], channels[0], 1),
        *(_Halving(inputs, outputs, residual=residual) for inputs, outputs in pairwise(channels)),
        *compared,
        EqualConv(last + len(compared), last, 3),
        nn.Flatten(),
        EqualLinear(last * math.prod(size), last, active=True),
        EqualLinear(last, 1),
        Score(),
    )
