"""One side of a comparison, real or generated: what all measures need of it, cached for the real one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor

from gan_core.metrics.bootstrap import bootstrap, weighted_moments
from gan_core.metrics.extractors.extractor import CODE, Classifier, Extractor, Pixels, tensors_digest
from gan_core.metrics.fid import Gaussian, frechet_distance
from gan_core.metrics.kid import kid
from gan_core.metrics.precision_recall import precision_recall
from gan_core.metrics.statistics.tally import KEPT, Tally
from gan_core.streams import seeded
from infra.files import alone, write_atomic
from pipelines.console import counted, say, ticking

RESAMPLES, WIDE_RESAMPLES, NARROW = 200, 50, 512
"""Of a bootstrap: fewer where each takes seconds."""
SUBSETS, SUBSET_SIZE = 100, 1000  # of KID, as published
NEIGHBOUR = 3  # of precision and recall, as published


@dataclass(frozen=True)
class Side:
    """The Gaussian of all its images' features and, where the images are at hand, the first features."""

    gaussian: Gaussian
    count: int | None
    features: Tensor | None = None

    @staticmethod
    def of(tally: Tally) -> Side:
        """Of images that went by. Raises ValueError for fewer than two."""
        assert tally.moments is not None
        return Side(tally.moments.gaussian.to("cpu"), tally.count, tally.features())


def cached_side(file: Path, console: Console, measure: Callable[[], Tally]) -> Side:
    """The real side from a file of the cache, or measured now and kept there; of several processes one measures."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with alone(file, lambda: say(console, f"waiting for another process that makes {file.name}")):
        if file.is_file():
            try:
                return _from_bytes(file.read_bytes())
            except (safetensors.SafetensorError, KeyError, ValueError):
                file.unlink()
        side = Side.of(measure())
        write_atomic(file, _to_bytes(side))
        return side


def _to_bytes(side: Side) -> bytes:
    assert side.features is not None
    tensors = {"mean": side.gaussian.mean, "covariance": side.gaussian.covariance, "features": side.features}
    tensors["count"] = torch.tensor(side.count)
    return bytes.fromhex(tensors_digest(tensors)) + safetensors.torch.save(tensors)


def _from_bytes(content: bytes) -> Side:
    """What `_to_bytes` wrote. Raises ValueError if a byte of it changed."""
    found = safetensors.torch.load(content[32:])
    if bytes.fromhex(tensors_digest(found)) != content[:32]:
        raise ValueError("its digest does not match")
    return Side(Gaussian(found["mean"], found["covariance"]), int(found["count"]), found["features"])


def side_key(content: str, extractor: Extractor) -> str:
    """Under what the side of a content's digest is cached: a changed image, resize, weight or code is another."""
    about = sorted({**extractor.about(), "weights": extractor.digest}.items())
    return hashlib.sha256(repr((content, about, CODE, KEPT)).encode()).hexdigest()[:32]


def tallied(
    console: Console, what: str, extractor: Extractor, batches: Iterable[Tensor], count: int, keep: int = KEPT
) -> Tally:
    """Measures images as they go by, shown on the screen."""
    return Tally(extractor, count, keep).extend(counted(console, what, batches, count))


def compare(console: Console, real: Side, fake: Tally, resampled: bool) -> dict[str, Any]:
    """Every measure of `fake` that the real side allows. Raises ValueError if it cannot be measured.

    `resampled`: whether FID's confidence interval is wanted, for which `fake` has kept all features.
    """
    side = Side.of(fake)
    found: dict[str, Any] = {"fid": frechet_distance(real.gaussian, side.gaussian)}
    if resampled:
        found |= _interval(console, real.gaussian, fake.features())
    found |= _of_pairs(fake.extractor, real.features, _some(fake.features()))
    score = fake.inception_score()
    if score is not None:
        found |= {"inception_score": score.mean, "inception_score_std": score.std}
    return found


def _some(features: Tensor) -> Tensor:
    """As many as pairs are made of, if all were kept: the same that would have been kept then."""
    if len(features) <= KEPT:
        return features
    return features[torch.randperm(len(features), generator=seeded("cpu", "kept features"))[:KEPT].sort().values]


def _of_pairs(extractor: Extractor, real: Tensor | None, fake: Tensor) -> dict[str, float]:
    """KID, precision and recall, of the first features of each side."""
    if real is None:
        return {}
    found: dict[str, float] = {}
    size = min(SUBSET_SIZE, len(real), len(fake))
    if not isinstance(extractor.net, Classifier | Pixels):  # whose scale the published kernel was not made for
        distance = kid(real, fake, SUBSETS, size)
        found |= {"kid": distance.mean, "kid_std": distance.std}
    if size > NEIGHBOUR:
        shares = precision_recall(real, fake, NEIGHBOUR)
        found |= {"precision": shares.precision, "recall": shares.recall}
    if max(len(real), len(fake)) == KEPT:
        found["pairs_of"] = KEPT
    return found


def _interval(console: Console, real: Gaussian, features: Tensor) -> dict[str, float]:
    """FID's 95% interval over resamples of the generated images, moved by the resamples' own bias."""
    resamples = RESAMPLES if features.shape[1] <= NARROW else WIDE_RESAMPLES
    with ticking(console, "bootstrap", resamples + 1) as tick:
        statistic = partial(_resampled_fid, real, features, tick)
        low, high = bootstrap(statistic, len(features), resamples).centred()
    return {"fid_low": max(low, 0.0), "fid_high": high}


def _resampled_fid(real: Gaussian, features: Tensor, tick: Callable[[int], None], counts: Tensor) -> float:
    tick(1)
    return frechet_distance(real, weighted_moments(features, counts).gaussian)
