"""FID of each class, and the moments of each class that it is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.statistics.moments import Moments


@dataclass(frozen=True)
class ClassDistance:
    """FID of one class, and how many features it is of."""

    fid: float | None
    """None if there are too few: the covariance of N features that are as wide or wider than N is rank-deficient."""
    real: int
    generated: int


def add_by_class(found: dict[int, Moments], features: Tensor, labels: Tensor) -> None:
    """Adds features (N, D) with labels (N,) to the moments of their classes."""
    for label in labels.unique().tolist():
        moments = Moments.of(features[(labels == label).to(features.device)])
        found[label] = found[label].merge(moments) if label in found else moments


def moments_by_class(
    extractor: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[int, Moments]:
    """The moments of each class's features, of batches of images and labels."""
    found: dict[int, Moments] = {}
    for images, labels in batches:
        add_by_class(found, extractor(images), labels)
    return found


def class_distances(real: Mapping[int, Moments], fake: Mapping[int, Moments], classes: int) -> list[ClassDistance]:
    """FID of each class, between the moments of its real and of its generated images."""
    found = []
    for label in range(classes):
        ours, theirs = real.get(label), fake.get(label)
        counts = tuple(0 if one is None else one.count for one in (ours, theirs))
        fid = None
        if ours is not None and theirs is not None and min(counts) > len(ours.mean):
            fid = frechet_distance(ours.gaussian.to("cpu"), theirs.gaussian.to("cpu"))
        found.append(ClassDistance(fid, *counts))
    return found
