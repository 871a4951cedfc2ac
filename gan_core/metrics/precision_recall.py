"""Improved precision and recall: how much of the fake lies among the real, and of the real among the fake.

Also the distances in tiles that every measure of neighbours is built on: no matrix of all pairs is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 2048
"""Rows and columns of a tile: 32 MB of float64."""

_VALUES = 2**23
"""Values of the rows of a tile that are held in float64 (64 MB): wide samples make smaller tiles."""

_NARROW = 32
"""Up to this width differences are taken one by one, which is exact and no slower than a matrix product."""

_ROUNDING = 1e-14
"""A squared distance that is a smaller share of the squared norms is rounding: the rows are equal in float32."""

_TIE = 1 + 1e-10
"""How much the squared radius of a ball is widened, so that rounding never decides whether its rim belongs to it."""


def measurable(features: Tensor, what: str, least: int = 1, like: Tensor | None = None) -> None:
    """Raises ValueError unless `features` is (N, D), N at least `least`, finite, and of the width of `like`."""
    if features.dim() != 2:
        raise ValueError(f"{what} are of shape {tuple(features.shape)}; wanted: (N, D)")
    if len(features) < least:
        raise ValueError(f"{what}: {least} or more are needed, there is {len(features)}")
    if like is not None and features.shape[1] != like.shape[1]:
        raise ValueError(f"{what} are {features.shape[1]} wide, what they are measured against {like.shape[1]}")
    bad = sum(int((~part.isfinite()).sum()) for part in features.split(BLOCK))
    if bad:
        raise ValueError(f"{what} hold {bad} values that are not finite")


def squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """Squared Euclidean distances (n, m) between float64 rows (n, D) and (m, D); 0 exactly between equal rows."""
    if one.shape[1] <= _NARROW:
        return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist").square()
    offset = other[:1]  # far from the origin, the norms would leave no digits for the distance
    one, other = one - offset, other - offset
    norms = one.square().sum(dim=1, keepdim=True) + other.square().sum(dim=1)
    squared = torch.addmm(norms, one, other.T, alpha=-2)
    return squared.masked_fill_(squared < _ROUNDING * norms, 0)


def tile_rows(width: int, block: int = BLOCK) -> int:
    """How many rows of that width to hold in float64 at once, `block` at most."""
    return max(1, min(block, _VALUES // max(width, 1)))


def tiles(rows: Tensor, columns: Tensor, block: int = BLOCK) -> Iterator[tuple[slice, slice, Tensor]]:
    """Squared distances between `rows` (N, D) and `columns` (M, D), float64, a tile of block x block at a time."""
    size = tile_rows(rows.shape[1], block)
    for i in range(0, len(rows), size):
        some = rows[i : i + size].detach().double()
        for j in range(0, len(columns), size):
            others = columns[j : j + size].detach().double()
            yield slice(i, i + size), slice(j, j + size), squared_distances(some, others)


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
    measurable(real, "real features", k + 1)
    measurable(fake, "fake features", k + 1, like=real)
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
