"""The real images and the noise of each turn, a function of (seed, turn) alone.

Every rank draws the whole global batch and takes its slice. So 1, 2 or N workers play the same game, and so does a run
that was resumed.
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
    """A random generator on `device`, seeded with a hash of `key`."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest) >> 1)


@lru_cache(maxsize=16)
def _permutation(seed: int, player: str, epoch: int, count: int, device: torch.device) -> Tensor:
    return torch.randperm(count, generator=seeded(device, seed, player, "epoch", epoch), device=device)


def _indices(seed: int, player: str, first: int, size: int, count: int, device: torch.device) -> Tensor:
    """Indices (size,) at positions first .. first + size of the player's endless sequence of shuffled epochs."""
    parts = []
    while size > 0:
        epoch, start = divmod(first, count)
        parts.append(_permutation(seed, player, epoch, count, device)[start : start + size])
        first, size = first + len(parts[-1]), size - len(parts[-1])
    return torch.cat(parts)


def draw_batches(
    turn: Turn,
    latent: int,
    images: Tensor,
    labels: Tensor,
    *,
    z: str = "normal",
    micro_batch: int | None = None,
    flip: bool = False,
) -> list[Batch]:
    """This rank's slice of a turn's global batch, or its slices of the batch's parts of `micro_batch` images.

    `images` (M, *shape) is the whole train set. Noise is drawn on its device, the same for any `micro_batch`. `z`: what
    z is drawn from, `normal` or `uniform`, as the family says.
    With `flip` a random half of the images, (C, H, W), is mirrored left to right.
    """
    device, size = images.device, turn.size
    chosen = _indices(turn.seed, turn.player, turn.number * size, size, len(images), device)
    draw = seeded(device, turn.seed, turn.player, "turn", turn.number)
    noise = _noise(z, size, latent, draw, device, images.dtype)
    mix = torch.rand(size, *[1] * (images.dim() - 1), generator=draw, device=device, dtype=images.dtype)
    found = []
    for first in range(0, size, micro_batch or size):
        part = turn._replace(first=first)
        mine = _mine(part, (micro_batch or size) // ranks.world_size())
        real = images[chosen[mine]]
        if flip:
            mirrored = uniform(part, "flip", real[:, :1, :1, :1]) < 0.5
            real = torch.where(mirrored, real.flip(-1), real)
        found.append(Batch(real, labels[chosen[mine]], noise[mine], mix[mine], part))
    return found


def _noise(
    z: str, rows: int, latent: int, draw: torch.Generator, device: torch.device, dtype: torch.dtype
) -> Tensor:  # (rows, latent)
    if z == "uniform":
        return 2 * torch.rand(rows, latent, generator=draw, device=device, dtype=dtype) - 1
    return torch.randn(rows, latent, generator=draw, device=device, dtype=dtype)


def _mine(turn: Turn, share: int) -> slice:
    """This rank's rows of the global batch in one pass, of which each rank has `share` rows."""
    first = turn.first + ranks.rank() * share
    return slice(first, first + share)


def normal(turn: Turn, purpose: str, like: Tensor) -> Tensor:
    """N(0, 1) in the shape of `like` (N, ...): this rank's rows of the turn's draw for the global batch."""
    return _rows(torch.randn, turn, purpose, like)


def uniform(turn: Turn, purpose: str, like: Tensor) -> Tensor:
    """As `normal`, but uniform on [0, 1)."""
    return _rows(torch.rand, turn, purpose, like)


def _rows(sampler: Callable[..., Tensor], turn: Turn, purpose: str, like: Tensor) -> Tensor:
    draw = seeded(like.device, turn.seed, turn.player, "turn", turn.number, purpose)
    whole = sampler(turn.size, *like.shape[1:], generator=draw, device=like.device, dtype=like.dtype)
    return whole[_mine(turn, len(like))]


def hide_labels(seed: int, labels: Tensor, kept: int) -> Tensor:
    """`labels` (M,) with all but `kept` replaced by -1. The seed chooses, as evenly over classes as possible."""
    known = labels.cpu()
    order = torch.randperm(len(known), generator=seeded("cpu", seed, "labelled"))
    by_class = order[known[order].argsort(stable=True)]
    sizes = known.bincount()
    place = torch.arange(len(known)) - (sizes.cumsum(0) - sizes)[known[by_class]]  # rank within its class
    chosen = by_class[place.argsort(stable=True)[:kept]].to(labels.device)
    return torch.full_like(labels, -1).index_copy(0, chosen, labels[chosen])


def labels_of(start: int, stop: int, classes: int, device: torch.device | str) -> Tensor:
    """Classes of samples start .. stop: sample i has class i % classes."""
    return torch.arange(start, stop, device=device) % classes


def latents(
    seed: int,
    purpose: str,
    start: int,
    stop: int,
    latent: int,
    device: torch.device,
    dtype: torch.dtype,
    z: str = "normal",
) -> Tensor:
    """Rows start .. stop of an endless table of z, N(0, I) or uniform on [-1, 1). A row does not depend on how the
    table is sliced."""

    def blocks() -> Iterator[Tensor]:
        for block in range(start // _BLOCK, -(-stop // _BLOCK)):
            draw = seeded(device, seed, purpose, "block", block)
            rows = _noise(z, _BLOCK, latent, draw, device, dtype)
            first = block * _BLOCK
            yield rows[max(start - first, 0) : stop - first]

    return torch.cat([torch.empty(0, latent, device=device, dtype=dtype), *blocks()])


def truncated(z: Tensor, limit: float, kind: str = "normal") -> Tensor:
    """z mapped to the distribution of those of its values that are not beyond `limit` in either direction. `kind`:
    `normal` or `uniform`, as `family.z` says.

    The truncation trick of Brock et al. 2019, arXiv:1809.11096, section 3.1. There, values outside are drawn again;
    here each value is mapped by distribution functions, to the same distribution, so that a row stays the same row.
    """
    if kind == "uniform":
        return z * min(limit, 1.0)
    normal = torch.special
    outside = normal.ndtr(torch.tensor(-limit, dtype=torch.float64, device=z.device))
    share = outside + (1 - 2 * outside) * normal.ndtr(z.double())
    return normal.ndtri(share).clamp(-limit, limit).to(z.dtype)
