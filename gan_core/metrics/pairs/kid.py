"""Kernel Inception Distance: squared MMD between features under a cubic kernel. Bińkowski et al. 2018, section 4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features, tile_rows


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation over subsets.

    The estimate is unbiased, so for equal distributions the mean is around 0 and may be negative.
    """

    mean: float
    std: float
    """Over the subsets' estimates, with their number as divisor, as published. Not the standard error of the mean."""


def _kernel_sum(one: Tensor, other: Tensor, block: int) -> Tensor:
    """Sum of k(x, y) = (x.y / D + 1)^3 over all pairs of rows of (n, D) and (m, D)."""
    size = tile_rows(one.shape[1], block)
    total = torch.zeros((), dtype=torch.float64, device=one.device)
    for x in one.split(size):
        for y in other.split(size):
            total += (x.double() @ y.double().T / x.shape[1] + 1).pow(3).sum()
    return total


def _own_kernel_mean(one: Tensor, block: int) -> Tensor:
    """Mean of k(x, x') over pairs of two different rows."""
    norms = torch.cat([part.double().square().sum(dim=1) for part in one.split(tile_rows(one.shape[1], block))])
    own = (norms / one.shape[1] + 1).pow(3).sum()
    return (_kernel_sum(one, one, block) - own) / (len(one) * (len(one) - 1))


def squared_mmd(real: Tensor, fake: Tensor, block: int = BLOCK) -> float:
    """Unbiased estimate of the squared MMD of features (N, D) and (M, D) over all pairs.

    Gretton et al. 2012, equation 3. Raises ValueError for values that are not finite or fewer than two rows.
    """
    check_features(real, "real features", 2)
    check_features(fake, "fake features", 2, like=real)
    real, fake = real.detach(), fake.detach()
    across = _kernel_sum(real, fake, block) / (len(real) * len(fake))
    return float(_own_kernel_mean(real, block) + _own_kernel_mean(fake, block) - 2 * across)


def subset_rows(real: int, fake: int, subsets: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers of each subset: `size` out of `real` rows and out of `fake` rows, drawn without replacement.

    The draws are those of torch-fidelity with the fakes as input 1, so that numbers can be checked against it.
    """
    draw = np.random.RandomState(seed)
    for _ in range(subsets):
        theirs = draw.choice(fake, size, replace=False)
        yield torch.from_numpy(draw.choice(real, size, replace=False)), torch.from_numpy(theirs)


def kid_over(real: Tensor, fake: Tensor, rows: Iterable[tuple[Tensor, Tensor]], block: int = BLOCK) -> KernelDistance:
    """KID over given subsets: pairs of row numbers of `real` (N, D) and of `fake` (M, D)."""
    found = [squared_mmd(real[one.to(real.device)], fake[other.to(fake.device)], block) for one, other in rows]
    estimates = torch.tensor(found, dtype=torch.float64)
    return KernelDistance(float(estimates.mean()), float(estimates.std(correction=0)))


def kid(
    real: Tensor, fake: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 2020, block: int = BLOCK
) -> KernelDistance:
    """KID of features (N, D) and (M, D) over random subsets. Number and size of subsets default to the published ones.

    Raises ValueError for values that are not finite, and for a set smaller than a subset.
    """
    check_features(real, "real features", 2)
    check_features(fake, "fake features", 2, like=real)
    if subsets < 1:
        raise ValueError(f"subsets={subsets}: nearest: subsets=1")
    fewest = min(len(real), len(fake))
    if not 2 <= subset_size <= fewest:
        nearest = max(2, min(subset_size, fewest))
        raise ValueError(
            f"subset_size={subset_size} with {len(real)} real and {len(fake)} fake samples: "
            f"2 to {fewest} can be drawn; nearest: subset_size={nearest}"
        )
    return kid_over(real, fake, subset_rows(len(real), len(fake), subsets, subset_size, seed), block)
