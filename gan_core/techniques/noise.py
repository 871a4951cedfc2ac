"""Instance noise on what a critic sees, and dropout in a generator. Both are drawn for the global batch, as a function
of (seed, turn), and sliced by rank."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from gan_core import streams
from gan_core.recipe import Turn


def instance_noise(sigma: float, rounds: int) -> Callable[[Tensor, str, Turn], Tensor]:
    """Adds N(0, sigma^2) to samples (N, *shape): `noised(x, "real" or "fake", batch.turn)`.

    sigma falls linearly to 0 over `rounds`. Sønderby et al. 2017, arXiv:1610.04490, section 3.2; Arjovsky & Bottou
    2017, arXiv:1701.04862, section 3.
    """

    def noised(x: Tensor, kind: str, turn: Turn) -> Tensor:
        left = sigma * max(0.0, 1 - turn.round / rounds)
        return x + left * streams.normal(turn, f"noise on {kind}", x) if left else x

    return noised


class GlobalDropout(nn.Module):
    """Dropout with masks that are drawn for the global batch; off in evaluation mode. Srivastava et al. 2014."""

    def __init__(self, share: float, place: int) -> None:
        super().__init__()
        self.share = share
        self.place = place
        self.turn: Turn | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        assert self.turn is not None, "`in_turn` tells whose masks these are"
        kept = streams.uniform(self.turn, f"dropout {self.place}", x) >= self.share
        return x * kept / (1 - self.share)


def with_dropout(generator: nn.Module, share: float) -> nn.Module:
    """The generator with dropout after each BatchNorm; as it is if `share` is 0.

    Isola et al. 2017, arXiv:1611.07004, section 3.2.1. They keep dropout for sampling; here the averaged generator
    samples without it.
    """
    if not share:
        return generator
    assert isinstance(generator, nn.Sequential), generator
    layers: list[nn.Module] = []
    for place, layer in enumerate(generator):
        layers += [layer, GlobalDropout(share, place)] if isinstance(layer, nn.BatchNorm2d) else [layer]
    return nn.Sequential(*layers)


def in_turn(net: nn.Module, turn: Turn) -> nn.Module:
    """The net, with its dropout set to draw the masks of that turn."""
    for module in net.modules():
        if isinstance(module, GlobalDropout):
            module.turn = turn
    return net
