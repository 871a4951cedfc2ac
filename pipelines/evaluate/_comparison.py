"""The feature statistics of real or generated images, the cache of the real ones, and every measure between two."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor

from gan_core.loop import Game
from gan_core.measures import Metrics, is_own
from gan_core.metrics.bootstrap import bootstrap, weighted_moments
from gan_core.metrics.coverage import class_coverage
from gan_core.metrics.extractors.classifier import Classifier
from gan_core.metrics.extractors.extractor import CODE, Extractor, PixelFeatures, tensors_digest
from gan_core.metrics.fid import Gaussian, frechet_distance
from gan_core.metrics.scores import NEIGHBOUR, MeasureError, as_given, own_scores, pair_scores
from gan_core.metrics.statistics.reference import Reference
from gan_core.metrics.statistics.tally import KEPT, Tally
from gan_core.settings import SettingsError
from gan_core.streams import seeded
from infra.files import write_atomic
from infra.locks import alone
from pipelines.console import count_bar, say

RESAMPLES, WIDE_RESAMPLES, NARROW = 200, 50, 512
"""Resamples of the bootstrap: `WIDE_RESAMPLES` for more than `NARROW` features, where each takes seconds."""


@dataclass(frozen=True)
class FeatureStatistics:
    """The Gaussian of the features of all images and, if the images are available, some of the features themselves."""

    gaussian: Gaussian
    count: int | None
    features: Tensor | None = None

    @staticmethod
    def of(tally: Tally) -> FeatureStatistics:
        """The statistics of a tally. Raises ValueError for fewer than two images."""
        assert tally.moments is not None
        return FeatureStatistics(tally.moments.gaussian.to("cpu"), tally.count, tally.features())


def cached_statistics(
    storage: Path, console: Console, digest: str, extractor: Extractor, batches: Iterable[Tensor], count: int
) -> FeatureStatistics:
    """Statistics of `count` real images with this digest, from a file of the cache. If it is missing or damaged, one
    process measures the images and writes the file, and other processes wait for it."""
    file = storage.resolve() / "cache" / f"side-{_statistics_key(digest, extractor)}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    with alone(file, lambda: say(console, f"waiting for another process that makes {file.name}")):
        if file.is_file():
            try:
                return _from_bytes(file.read_bytes())
            except (safetensors.SafetensorError, KeyError, ValueError):
                file.unlink()
        statistics = FeatureStatistics.of(
            measure_images(console, "real", extractor, batches, count, core_each=extractor.core_each)
        )
        write_atomic(file, _to_bytes(statistics))
        return statistics


def _to_bytes(statistics: FeatureStatistics) -> bytes:
    assert statistics.features is not None
    gaussian = statistics.gaussian
    tensors = {"mean": gaussian.mean, "covariance": gaussian.covariance, "features": statistics.features}
    tensors["count"] = torch.tensor(statistics.count)
    return bytes.fromhex(tensors_digest(tensors)) + safetensors.torch.save(tensors)


def _from_bytes(content: bytes) -> FeatureStatistics:
    """Reads what `_to_bytes` wrote. Raises ValueError if a byte of it changed."""
    found = safetensors.torch.load(content[32:])
    if bytes.fromhex(tensors_digest(found)) != content[:32]:
        raise ValueError("its digest does not match")
    return FeatureStatistics(Gaussian(found["mean"], found["covariance"]), int(found["count"]), found["features"])


def _statistics_key(digest: str, extractor: Extractor) -> str:
    """It changes with an image, the resize, the weights and the code."""
    about = sorted({**extractor.about(), "weights": extractor.digest}.items())
    return hashlib.sha256(repr((digest, about, CODE, KEPT)).encode()).hexdigest()[:32]


def measure_images(
    console: Console,
    what: str,
    extractor: Extractor,
    batches: Iterable[Tensor],
    count: int,
    keep: int = KEPT,
    *,
    core_each: bool = False,
    labels: Tensor | None = None,
) -> Tally:
    """Extracts and counts the features of the images, with a bar on the screen. `keep`: how many features to keep.
    `core_each`: see `Tally.extend`. `labels`: the images' classes, if each is to have its moments."""
    with count_bar(console, f"{what} images measured", count) as move:
        return Tally(extractor, count, keep, labels).extend(batches, move, core_each=core_each)


def compare(
    console: Console, real: FeatureStatistics, fake: Tally, resampled: bool, asked: Collection[str] = ()
) -> dict[str, Any]:
    """Every measure of `fake` that the real statistics allow. Raises ValueError if FID cannot be computed.

    `resampled`: also FID's confidence interval. For this `fake` must have kept all features. `asked`: measures that are
    computed if they are asked for.
    """
    generated = FeatureStatistics.of(fake)
    found: dict[str, Any] = {"fid": frechet_distance(real.gaussian, generated.gaussian)}
    if resampled:
        found |= _interval(console, real.gaussian, fake.features())
    found |= _of_pairs(fake.extractor, real.features, _some(fake.features()), asked)
    score = fake.inception_score()
    if score is not None:
        found |= {"inception_score": score.mean, "inception_score_std": score.std}
    if fake.hits is not None:
        modes, divergence = class_coverage(fake.hits)
        found |= {"modes": modes, "modes_of": len(fake.hits), "modes_kl": divergence}
    return found


def _some(features: Tensor) -> Tensor:
    """The features that pairs are made of. If all were kept, it takes the same that a tally with `KEPT` would keep."""
    if len(features) <= KEPT:
        return features
    return features[torch.randperm(len(features), generator=seeded("cpu", "kept features"))[:KEPT].sort().values]


def _of_pairs(extractor: Extractor, real: Tensor | None, fake: Tensor, asked: Collection[str]) -> dict[str, float]:
    """KID, precision and recall of the kept real and generated features, and what is asked for."""
    if real is None:
        return {}
    wanted = {*asked}
    if not isinstance(extractor.net, Classifier | PixelFeatures):  # the published kernel was not made for their scale
        wanted.add("kid")
    if min(len(real), len(fake)) > NEIGHBOUR:
        wanted |= {"precision", "recall"}
    found = pair_scores(real, fake, wanted)
    if max(len(real), len(fake)) == KEPT:
        found["pairs_of"] = KEPT
    return found


def of_own(settings: Metrics, game: Game, reference: Reference, samples: Iterable[Tensor]) -> dict[str, float]:
    """The measures of one's own that the settings name, of all of these samples. Raises SettingsError if one cannot be
    computed."""
    paths = [path for path in settings.measures if is_own(path)]
    if not paths:
        return {}
    try:
        return own_scores(paths, reference, torch.cat([as_given(batch) for batch in samples]), game)
    except MeasureError as error:
        raise SettingsError(f"metrics.measures: {error.measure} cannot be computed: {error}", "leave it out") from None


def _interval(console: Console, real: Gaussian, features: Tensor) -> dict[str, float]:
    """The 95% interval of FID over resamples of the generated images. It is shifted by the bias of the resamples."""
    resamples = RESAMPLES if features.shape[1] <= NARROW else WIDE_RESAMPLES
    with count_bar(console, "bootstrap", resamples + 1) as tick:

        def statistic(counts: Tensor) -> float:
            tick(1)
            return frechet_distance(real, weighted_moments(features, counts).gaussian)

        low, high = bootstrap(statistic, len(features), resamples).centred()
    return {"fid_low": max(low, 0.0), "fid_high": high}
