"""Which real images and which noise belong to a player's turn: a function of (seed, turn) alone.

The global batch is drawn whole on every rank and then sliced, so that 1, 2 or N workers, and a run that was
resumed, see the same game.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

from gan_core import ranks
from gan_core.recipe import Batch, Turn

_BLOCK = 256


def seeded(device: torch.device | str, *key: object) -> torch.Generator:
    """A random generator on `device`, its seed a hash of `key`."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest) >> 1)


@lru_cache(maxsize=16)
def _permutation(seed: int, player: str, epoch: int, count: int, device: torch.device) -> Tensor:
    return torch.randperm(count, generator=seeded(device, seed, player, "epoch", epoch), device=device)


def _indices(seed: int, player: str, first: int, size: int, count: int, device: torch.device) -> Tensor:
    """Which of `count` images stand at positions first .. first + size of the player's endless reshuffling."""
    parts = []
    while size > 0:
        epoch, start = divmod(first, count)
        parts.append(_permutation(seed, player, epoch, count, device)[start : start + size])
        first, size = first + len(parts[-1]), size - len(parts[-1])
    return torch.cat(parts)


def draw_batch(seed: int, player: str, index: int, size: int, latent: int, images: Tensor, labels: Tensor) -> Batch:
    """This rank's slice of the global batch of `size` that `player` sees in its turn `index` (from 0).

    `images` is the whole train set (M, *shape) on the device where the noise is to be drawn.
    """
    device, share = images.device, size // ranks.world_size()
    mine = slice(ranks.rank() * share, (ranks.rank() + 1) * share)
    chosen = _indices(seed, player, index * size, size, len(images), device)[mine]
    draw = seeded(device, seed, player, "turn", index)
    z = torch.randn(size, latent, generator=draw, device=device, dtype=images.dtype)
    mix = torch.rand(size, *[1] * (images.dim() - 1), generator=draw, device=device, dtype=images.dtype)
    return Batch(images[chosen], labels[chosen], z[mine], mix[mine], Turn(seed, player, index, size))


def normal(turn: Turn, purpose: str, like: Tensor) -> Tensor:
    """N(0, 1) in the shape of `like` (N, ...): this rank's rows of what the turn draws for the global batch."""
    return _rows(torch.randn, turn, purpose, like)


def uniform(turn: Turn, purpose: str, like: Tensor) -> Tensor:
    """The same, uniform on [0, 1)."""
    return _rows(torch.rand, turn, purpose, like)


def _rows(sampler: Callable[..., Tensor], turn: Turn, purpose: str, like: Tensor) -> Tensor:
    draw = seeded(like.device, turn.seed, turn.player, "turn", turn.number, purpose)
    whole = sampler(turn.size, *like.shape[1:], generator=draw, device=like.device, dtype=like.dtype)
    return whole[ranks.rank() * len(like) : (ranks.rank() + 1) * len(like)]


def hide_labels(seed: int, labels: Tensor, kept: int) -> Tensor:
    """`labels` (M,) with all but `kept` replaced by -1: a choice by `seed`, as many of each class as there can be."""
    known = labels.cpu()
    order = torch.randperm(len(known), generator=seeded("cpu", seed, "labelled"))
    by_class = order[known[order].argsort(stable=True)]
    sizes = known.bincount()
    place = torch.arange(len(known)) - (sizes.cumsum(0) - sizes)[known[by_class]]  # within its class
    chosen = by_class[place.argsort(stable=True)[:kept]].to(labels.device)
    return torch.full_like(labels, -1).index_copy(0, chosen, labels[chosen])


def labels_of(start: int, stop: int, classes: int, device: torch.device | str) -> Tensor:
    """Classes of samples start .. stop of an endless sequence: sample i has class i % classes."""
    return torch.arange(start, stop, device=device) % classes


def latents(
    seed: int, purpose: str, start: int, stop: int, latent: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Rows start .. stop of an endless table of z ~ N(0, I), the same for any way of slicing it."""

    def blocks() -> Iterator[Tensor]:
        for block in range(start // _BLOCK, -(-stop // _BLOCK)):
            draw = seeded(device, seed, purpose, "block", block)
            rows = torch.randn(_BLOCK, latent, generator=draw, device=device, dtype=dtype)
            first = block * _BLOCK
            yield rows[max(start - first, 0) : stop - first]

    return torch.cat([torch.empty(0, latent, device=device, dtype=dtype), *blocks()])
