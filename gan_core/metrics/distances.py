"""Squared distances between rows, in tiles, so that no measure holds a matrix of all pairs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2048
"""Rows and columns of a tile: 32 MB of float64."""

_VALUES = 2**23
"""Values of the rows of a tile in float64 (64 MB). Wide samples make smaller tiles."""

_NARROW = 32
"""Up to this width, distances are computed from differences, which is exact and no slower than a matrix product."""

_ROUNDING = 1e-14
"""A squared distance below this share of the squared norms is a rounding error: the rows are equal in float32."""


def check_features(features: Tensor, what: str, least: int = 1, like: Tensor | None = None) -> None:
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
    offset = other[:1]  # large norms would cancel all digits of the distance
    one, other = one - offset, other - offset
    norms = one.square().sum(dim=1, keepdim=True) + other.square().sum(dim=1)
    squared = torch.addmm(norms, one, other.T, alpha=-2)
    return squared.masked_fill_(squared < _ROUNDING * norms, 0)


def tile_rows(width: int, block: int = BLOCK) -> int:
    """How many rows of that width to hold in float64 at once, at most `block`."""
    return max(1, min(block, _VALUES // max(width, 1)))


def tiles(rows: Tensor, columns: Tensor, block: int = BLOCK) -> Iterator[tuple[slice, slice, Tensor]]:
    """Squared distances between `rows` (N, D) and `columns` (M, D), float64, in tiles of at most block x block."""
    size = tile_rows(rows.shape[1], block)
    for i in range(0, len(rows), size):
        some = rows[i : i + size].detach().double()
        for j in range(0, len(columns), size):
            others = columns[j : j + size].detach().double()
            yield slice(i, i + size), slice(j, j + size), squared_distances(some, others)
