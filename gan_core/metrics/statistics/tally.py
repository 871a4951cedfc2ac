"""Collects what the measures need of a set of images, batch by batch, in memory that does not grow with the set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gan_core import ranks
from gan_core.data.image_files import in_order
from gan_core.metrics.by_class import add_by_class
from gan_core.metrics.extractors.classifier import StackedClassifier
from gan_core.metrics.extractors.extractor import Extractor, cores, one_thread
from gan_core.metrics.inception_score import InceptionScore, Predictions, split_of
from gan_core.metrics.statistics.moments import Moments
from gan_core.streams import seeded

SPLITS = 10
KEPT = 5000
"""Number of images, chosen at random, whose features are kept for measures of pairs (KID, precision, recall)."""


def kept_rows(count: int, keep: int = KEPT) -> Tensor:
    """The numbers of the images of a set of `count` whose features are kept, in their order."""
    return torch.randperm(count, generator=seeded("cpu", "kept features"))[:keep].sort().values


@dataclass
class Tally:
    """Moments of the features, class probabilities by split, and some of the features themselves."""

    extractor: Extractor
    count: int
    """Images of the whole set, over all ranks. The splits of the Inception Score depend on it."""
    keep: int = 0
    """How many images' features to keep, on the CPU. A fixed seed chooses the images."""
    labels: Tensor | None = None
    """Classes of all images of the set (N,); None: the moments of each class are not counted."""
    moments: Moments | None = None
    predictions: Predictions | None = None
    by_class: dict[int, Moments] = field(default_factory=dict)
    """The moments of each class; those of this rank's images alone."""
    hits: Tensor | None = None
    """How many images (K,), float64, were named as each mode by a classifier of stacks."""
    kept: Tensor | None = None
    """The kept features, in the order of their images. Allocated at once: many small pieces would fragment memory."""

    def add(self, images: Tensor, first: int) -> None:
        """Adds images (N, *shape), which are numbers `first` and up of the set.

        Raises ValueError for images out of range and features that are not finite.
        """
        self._add(self.extractor(images), first)

    def extend(
        self, batches: Iterable[Tensor], move: Callable[[float], None] = lambda _: None, *, core_each: bool = False
    ) -> Tally:
        """Adds all batches, in order from number 0, and calls `move` with the size of each.

        `core_each`: each CPU core measures a batch of its own. It is fastest for a small extractor, and the numbers do
        not depend on how many cores there are.
        """
        with one_thread() if core_each else nullcontext():
            measured = (
                in_order(self.extractor, batches, ahead=cores(), threads=cores())
                if core_each
                else map(self.extractor, batches)
            )
            first = 0
            for found in measured:
                self._add(found, first)
                first += len(found[0])
                move(len(found[0]))
        return self

    def _add(self, found: tuple[Tensor, Tensor | None], first: int) -> None:
        features, logits = found
        moments = Moments.of(features)
        self.moments = moments if self.moments is None else self.moments.merge(moments)
        if self.labels is not None:
            add_by_class(self.by_class, features, self.labels[first : first + len(features)])
        if self.keep:
            self._keep(features, first)
        if logits is not None and isinstance(self.extractor.net, StackedClassifier):
            hits = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1]).double()
            self.hits = hits if self.hits is None else self.hits + hits
        if logits is not None and self._split is not None:
            found_classes = Predictions.of(logits, self._split[first : first + len(features)], SPLITS)
            self.predictions = found_classes if self.predictions is None else self.predictions.merge(found_classes)

    def features(self) -> Tensor:
        """The kept features (K, D)."""
        assert self.kept is not None
        return self.kept[: self._filled]

    def _keep(self, features: Tensor, first: int) -> None:
        if self.kept is None:
            self.kept = torch.zeros(min(self.keep, self.count), features.shape[1], dtype=features.dtype)
        chosen = self._chosen[first : first + len(features)]
        places = self._places[first : first + len(features)][chosen]
        self.kept[places] = features[chosen.to(features.device)].to(self.kept.device)
        self._filled += len(places)

    def inception_score(self) -> InceptionScore | None:
        """The Inception Score; None if the extractor does not classify, or if a split has fewer than two images."""
        return None if self.predictions is None else self.predictions.score()

    def over_ranks(self, width: int, device: torch.device) -> Tally:
        """The tally of all ranks' images. All ranks must call it, also one without images."""
        moments = self.moments or Moments.none(torch.zeros(width, device=device))
        classes = self.extractor.net.classes
        predictions = None
        if classes is not None and self.count >= 2 * SPLITS:
            predictions = (self.predictions or Predictions.none(SPLITS, classes, device)).over_ranks()
        hits = None
        if isinstance(self.extractor.net, StackedClassifier) and classes is not None:
            hits = ranks.total(torch.zeros(classes, device=device).double() if self.hits is None else self.hits)
        kept = self._kept_over_ranks(width, device) if self.keep else None
        return Tally(
            self.extractor,
            self.count,
            self.keep,
            moments=moments.over_ranks(),
            predictions=predictions,
            hits=hits,
            kept=kept,
        )

    def _kept_over_ranks(self, width: int, device: torch.device) -> Tensor:
        """Each rank adds zeros where another has features, so no bit changes. A rank without images has no type of
        features, so double is sent; rank 0 has images."""
        table = torch.zeros(min(self.keep, self.count), width, dtype=torch.float64, device=device)
        if self.kept is not None:
            table += self.kept.to(device)
        return ranks.total(table).to("cpu", torch.float32 if self.kept is None else self.kept.dtype)

    def __post_init__(self) -> None:
        self._filled = 0 if self.kept is None else len(self.kept)
        self._chosen = torch.zeros(self.count, dtype=torch.bool)
        self._chosen[kept_rows(self.count, self.keep)] = True
        self._places = self._chosen.cumsum(0) - 1  # of each chosen image in `kept`
        self._split = split_of(self.count, SPLITS) if self.count >= 2 * SPLITS else None
