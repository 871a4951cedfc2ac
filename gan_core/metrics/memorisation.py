"""Memorisation: whether samples are closer to the train set than held-out real images are.

The comparison is that of Meehan, Chaudhuri & Dasgupta 2020 ("A non-parametric test to detect data-copying in generative
models"), with the whole space as one cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features, tile_rows, tiles


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image, in units of the features, of samples and of held-out images."""

    sample_median: float
    held_out_median: float
    ratio: float
    """sample_median / held_out_median: about 1 for a generator that generalises, 0 for one that copies."""
    nearer: float
    """Probability that a sample is nearer to the train set than a held-out image, with ties as a half (an AUROC): 0.5
    for samples of the true distribution, 1 for copies, towards 0 for bad samples."""
    closest: Tensor
    """Indices of the P samples nearest to the train set and of their training images (P, 2), nearest first."""
    distances: Tensor
    """Distances of those pairs (P,), float64; 0 is a copy."""


def nearest_neighbours(queries: Tensor, train: Tensor, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Distance (N,), float64, of each query (N, D) to its nearest row of `train` (M, D), and the row's index (N,)."""
    squared = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for rows, columns, part in tiles(queries, train, block):
        value, at = part.min(dim=1)
        index[rows] = torch.where(value < squared[rows], at + columns.start, index[rows])
        squared[rows] = torch.minimum(squared[rows], value)
    size = tile_rows(train.shape[1], block)
    # Recomputed from differences, so that a near copy's distance is exact and does not depend on `block`.
    exact = [
        (some.detach().double() - train[at].detach().double()).norm(dim=1)
        for some, at in zip(queries.split(size), index.split(size), strict=True)
    ]
    return torch.cat(exact), index


def share_nearer(ones: Tensor, others: Tensor) -> float:
    """Probability that one of `ones` (N,) is below one of `others` (M,), with ties as a half: U / NM of Mann & Whitney
    1947."""
    ordered = others.sort().values
    above = len(ordered) - torch.searchsorted(ordered, ones, right=True)
    at_least = len(ordered) - torch.searchsorted(ordered, ones)
    return float((above + at_least).double().mean()) / 2 / len(ordered)


def memorisation(samples: Tensor, train: Tensor, held_out: Tensor, pairs: int = 8, block: int = BLOCK) -> Memorisation:
    """Compares samples (N, D), train images (M, D) and held-out images (H, D), given as features or flattened pixels.

    `held_out` must have the distribution of `train` but no images of `train`. Raises ValueError for values that are not
    finite, an empty set, and held-out images half of which are copies of training images.
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
