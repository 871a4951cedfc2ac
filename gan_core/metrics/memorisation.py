"""Memorisation: whether samples lie nearer to the train set than real images that were held out of it.

The comparison of Meehan, Chaudhuri & Dasgupta 2020 ("A non-parametric test to detect data-copying in generative
models"), over the whole space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features, tile_rows, tiles


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, in the features' units, of samples against held-out images."""

    sample_median: float
    held_out_median: float
    ratio: float
    """The samples' median over the held-out one's: about 1 for a generator that learnt, 0 for one that copies."""
    nearer: float
    """Chance that a sample is nearer to the train set than a held-out image, ties counted half (an AUROC): 0.5 for
    true samples, 1 for copies, towards 0 for samples that are simply bad."""
    closest: Tensor
    """The samples nearest to the train set and their training images (P, 2), int64, nearest first: for a picture."""
    distances: Tensor
    """Of those pairs (P,), float64; 0 is a copy."""


def nearest_neighbours(queries: Tensor, train: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Distance (N,), float64, and index (N,), int64, in `train` (M, D) of what is nearest to each query (N, D)."""
    squared = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for rows, columns, part in tiles(queries, train, block):
        value, at = part.min(dim=1)
        index[rows] = torch.where(value < squared[rows], at + columns.start, index[rows])
        squared[rows] = torch.minimum(squared[rows], value)
    size = tile_rows(train.shape[1], block)
    # Once more by differences: a near copy's distance is then exact, and the same for any block.
    exact = [
        (some.detach().double() - train[at].detach().double()).norm(dim=1)
        for some, at in zip(queries.split(size), index.split(size), strict=True)
    ]
    return torch.cat(exact), index


def share_nearer(ones: Tensor, others: Tensor) -> float:
    """Chance that one of `ones` (N,) is below one of `others` (M,), ties counted half. Mann & Whitney 1947: U / NM."""
    ordered = others.sort().values
    above = len(ordered) - torch.searchsorted(ordered, ones, right=True)
    at_least = len(ordered) - torch.searchsorted(ordered, ones)
    return float((above + at_least).double().mean()) / 2 / len(ordered)


def memorisation(samples: Tensor, train: Tensor, held_out: Tensor, pairs: int = 8, block: int = BLOCK) -> Memorisation:
    """Of samples (N, D), train (M, D) and held-out images (H, D), as features or pixels (flattened).

    `held_out` must come from the same distribution as `train` and not from `train`. Raises ValueError for values that
    are not finite, an empty set, and held-out images that are mostly copies of training ones: nothing can be compared.
    """
    check_features(train, "train images")
    check_features(samples, "samples", like=train)
    check_features(held_out, "held-out images", like=train)
    found, index = nearest_neighbours(samples, train, block)
    expected, _ = nearest_neighbours(held_out, train, block)
    sample_median, held_out_median = float(found.quantile(0.5)), float(expected.quantile(0.5))
    if not held_out_median:
        raise ValueError("half or more of the held-out images are copies of training images: hold out others")
    order = found.argsort(stable=True)[:pairs]
    return Memorisation(
        sample_median=sample_median,
        held_out_median=held_out_median,
        ratio=sample_median / held_out_median,
        nearer=share_nearer(found, expected),
        closest=torch.stack([order, index[order]], dim=1),
        distances=found[order],
    )
