"""Improved precision and recall: how much of the fake lies among the real, and of the real among the fake."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features, tiles

_TIE = 1 + 1e-10
"""How much the squared radius of a ball is widened, so that rounding never decides whether its rim belongs to it."""


def squared_radii(features: Tensor, k: int = 3, block: int = BLOCK) -> Tensor:
    """Squared distance (N,), float64, from each of `features` (N, D) to its k-th nearest other one."""
    best = torch.full((len(features), k + 1), torch.inf, dtype=torch.float64, device=features.device)
    for rows, _, squared in tiles(features, features, block):
        best[rows] = torch.cat([best[rows], squared], dim=1).topk(k + 1, largest=False).values
    return best[:, k]  # itself is the nearest, at 0


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares, 0 to 1; `density` alone may exceed 1."""

    precision: float
    """Share of fakes in the ball of any real one: fidelity."""
    recall: float
    """Share of real ones in the ball of any fake: diversity."""
    density: float
    """In how many real balls a fake lies, over k. Less swayed by real outliers than precision."""
    coverage: float
    """Share of real balls that hold a fake."""


def precision_recall(real: Tensor, fake: Tensor, k: int = 3, block: int = BLOCK) -> PrecisionRecall:
    """Of features (N, D) and (M, D); a sample's ball reaches to its k-th nearest neighbour in its own set.

    Kynkäänniemi et al. 2019, equations 1 and 2 (k = 3); density and coverage: Naeem et al. 2020, section 3
    (who take k = 5). All depend on N and M: compare only numbers of equal counts.

    Raises ValueError for values that are not finite, k < 1, or a set of k samples or fewer.
    """
    if k < 1:
        raise ValueError(f"k={k}: a neighbour's number is 1 or more; nearest: k=1")
    check_features(real, "real features", k + 1)
    check_features(fake, "fake features", k + 1, like=real)
    real_radii, fake_radii = (squared_radii(features, k, block) * _TIE for features in (real, fake))
    balls = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = recalled.clone()
    for rows, columns, squared in tiles(fake, real, block):
        inside = squared <= real_radii[columns]
        balls[rows] += inside.sum(dim=1)
        covered[columns] |= inside.any(dim=0)
        recalled[columns] |= (squared <= fake_radii[rows, None]).any(dim=0)
    return PrecisionRecall(
        precision=float((balls > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(balls.double().mean()) / k,
        coverage=float(covered.double().mean()),
    )
