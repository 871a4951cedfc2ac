"""What the measures need of one set of images, gathered batch by batch: its size does not depend on the images'
number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.extractors.extractor import Extractor
from gan_core.metrics.inception_score import InceptionScore, Predictions, split_of
from gan_core.metrics.statistics.moments import Moments
from gan_core.streams import seeded

SPLITS = 10
KEPT = 5000
"""Features kept for the measures that look at pairs (KID, precision, recall): of so many images, chosen at random."""


@dataclass
class Tally:
    """Moments of the features, class probabilities by split, and the first features themselves."""

    extractor: Extractor
    count: int
    """Images of the whole set, all ranks together: the splits of the Inception Score depend on it."""
    keep: int = 0
    """How many features to keep, on the CPU: of all images, or of as many chosen from a fixed seed."""
    moments: Moments | None = None
    predictions: Predictions | None = None
    kept: Tensor | None = None
    """Those kept so far come first. Made whole at once: many small pieces would leave holes in memory."""

    def add(self, images: Tensor, first: int) -> None:
        """Adds images (N, *shape), the set's number `first` and those after it. Raises ValueError for images out of
        range and features that are not finite."""
        features, logits = self.extractor(images)
        moments = Moments.of(features)
        self.moments = moments if self.moments is None else self.moments.merge(moments)
        if self.keep:
            self._keep(features[self._chosen[first : first + len(images)].to(features.device)])
        if logits is not None and self._split is not None:
            found = Predictions.of(logits, self._split[first : first + len(images)], SPLITS)
            self.predictions = found if self.predictions is None else self.predictions.merge(found)

    def extend(self, batches: Iterable[Tensor]) -> Tally:
        """Adds all batches, numbered in their order."""
        first = 0
        for images in batches:
            self.add(images, first)
            first += len(images)
        return self

    def features(self) -> Tensor:
        """The kept ones (K, D)."""
        assert self.kept is not None
        return self.kept[: self._filled]

    def _keep(self, some: Tensor) -> None:
        if self.kept is None:
            self.kept = torch.empty(min(self.keep, self.count), some.shape[1], dtype=some.dtype)
        self.kept[self._filled : self._filled + len(some)] = some
        self._filled += len(some)

    def inception_score(self) -> InceptionScore | None:
        """None where the extractor names no classes, or two images a split are not there."""
        return None if self.predictions is None else self.predictions.score()

    def over_ranks(self, width: int, device: torch.device) -> Tally:
        """All ranks' sets together; every rank must ask, also one that had no images."""
        moments = self.moments or Moments.none(torch.zeros(width, device=device))
        classes = self.extractor.net.classes
        predictions = None
        if classes is not None and self.count >= 2 * SPLITS:
            predictions = (self.predictions or Predictions.none(SPLITS, classes, device)).over_ranks()
        return Tally(self.extractor, self.count, 0, moments.over_ranks(), predictions)

    def __post_init__(self) -> None:
        self._filled = 0
        self._chosen = torch.zeros(self.count, dtype=torch.bool)
        self._chosen[torch.randperm(self.count, generator=seeded("cpu", "kept features"))[: self.keep]] = True
        self._split = split_of(self.count, SPLITS) if self.count >= 2 * SPLITS else None
