"""Improved precision and recall: which share of fakes lies among reals, and which share of reals among fakes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.distances import BLOCK, check_features, tiles

_TIE = 1 + 1e-10
"""Factor on a ball's squared radius, so that points on its boundary are inside whatever the rounding."""


def squared_radii(features: Tensor, k: int = 3, block: int = BLOCK) -> Tensor:
    """Squared distance (N,), float64, from each row of `features` (N, D) to its k-th nearest other row."""
    best = torch.full((len(features), k + 1), torch.inf, dtype=torch.float64, device=features.device)
    for rows, _, squared in tiles(features, features, block):
        best[rows] = torch.cat([best[rows], squared], dim=1).topk(k + 1, largest=False).values
    return best[:, k]  # the nearest is the row itself, at 0


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares from 0 to 1; only `density` may exceed 1."""

    precision: float
    """Share of fakes that are in the ball of a real sample: fidelity."""
    recall: float
    """Share of real samples that are in the ball of a fake: diversity."""
    density: float
    """Mean number of real balls that a fake is in, over k. Outliers among the reals affect it less than precision."""
    coverage: float
    """Share of real balls that contain a fake."""


def precision_recall(real: Tensor, fake: Tensor, k: int = 3, block: int = BLOCK) -> PrecisionRecall:
    """Precision and recall of features (N, D) and (M, D). A sample's ball reaches to its k-th neighbour in its own set.

    Kynkäänniemi et al. 2019, equations 1 and 2, with k = 3; density and coverage: Naeem et al. 2020, section 3, with
    k = 5. All depend on N and M: compare only numbers from equal counts.

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
