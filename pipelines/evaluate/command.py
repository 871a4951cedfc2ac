"""`ganfleet evaluate`: a checkpoint against its data, or a folder of images against another or published statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from gan_core import checkpoint, data
from gan_core.data.dataset import Dataset
from gan_core.data.image_files import files_digest, image_batches, image_files
from gan_core.experiment import Metrics
from gan_core.loop import Game
from gan_core.metrics.coverage import mode_coverage
from gan_core.metrics.extractors.extractor import Extractor, Pixels
from gan_core.metrics.extractors.inception import InceptionV3
from gan_core.metrics.fid import Gaussian
from gan_core.metrics.memorisation import Memorisation, memorisation
from gan_core.metrics.parzen import parzen
from gan_core.metrics.scores import sample_count, sample_range, shares
from gan_core.metrics.statistics.reference import (
    WIDEST,
    Reference,
    batch_of,
    build_extractor,
    published,
    real_batches,
    too_wide,
)
from gan_core.metrics.statistics.statistics_file import write_statistics
from gan_core.metrics.statistics.tally import KEPT
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.data.fetch import at_hand
from pipelines.evaluate._comparison import Side, cached_side, compare, side_key, tallied
from pipelines.evaluate.pictures import pairs_picture, png
from pipelines.evaluate.reference import best_device, doubts, obtain_reference, with_weights
from pipelines.runs import shared_cache
from pipelines.settings import Storage

FOLDER_BATCH = 64
"""Images of a folder, of any size, that are measured at once."""


@dataclass(frozen=True)
class Asked:
    """What to do beside measuring."""

    storage: Path
    console: Console
    resampled: bool = False
    """A confidence interval of FID by the bootstrap."""
    statistics: Path | None = None
    """Where to write the real side's mean and covariance, in the form of published ones."""
    packs: Storage = field(default_factory=Storage)
    """How packs are fetched, if the checkpoint's data is one, and where the reference is shared, if that is in S3."""


def evaluate_checkpoint(folder: Path, settings: Metrics, asked: Asked) -> dict[str, Any]:
    """A checkpoint against the train set of its data, and what it was measured with.

    Of the same samples: Inception Score, precision and recall, KID where its kernel fits; modes for mixtures; and
    with held-out data memorisation and Parzen's log-likelihood.
    """
    game = checkpoint.open_game(folder, best_device())
    source = at_hand(game.experiment.data, asked.packs, asked.console)
    dataset = data.load(source)
    yardstick = obtain_reference(settings, source, asked.storage, asked.console, shared_cache(asked.packs))
    reference = Reference.from_bytes(yardstick.content, dataset).to(best_device())
    extractor = reference.extractor
    count = sample_count(settings.samples, reference)
    fake = tallied(
        asked.console, "generated", extractor, _generated(game, count), count, count if asked.resampled else KEPT
    )
    result = compare(asked.console, _real_side(reference, dataset, settings, asked), fake, asked.resampled)
    result |= _of_samples(dataset, game, min(count, KEPT), folder)
    if asked.statistics is not None:
        _write_statistics(asked.statistics, reference.target.to("cpu"), extractor, reference.count)
    return {
        **result,
        "samples": count,
        "step": game.step,
        "images_seen": game.images_seen,
        "family": game.experiment.family.name,
        "data": game.experiment.data.name,
        "checkpoint": str(folder),
        **{key.removeprefix("ganfleet."): value for key, value in yardstick.tags.items()},
        "warnings": doubts(extractor, len(reference.target.mean), {"real": reference.count, "generated": count}),
    }


def evaluate_images(fake: Path, real: Path, settings: Metrics, asked: Asked) -> dict[str, Any]:
    """A folder of images against another, or against an npz file of published statistics.

    Raises ValueError for a folder without two images, images of several sizes, and statistics that do not fit.
    """
    extractor = _extractor(settings, asked)
    files = _at_least_two(fake)
    side = _published_side(real, extractor) if real.is_file() else _folder_side(real, extractor, asked)
    keep = len(files) if asked.resampled else KEPT
    tally = tallied(asked.console, "generated", extractor, _read(files, extractor), len(files), keep)
    assert tally.moments is not None
    width, wanted = len(tally.moments.mean), len(side.gaussian.mean)
    if width != wanted:
        raise SettingsError(f"{fake} gives {width} features an image, {real} {wanted}; nearest: images of one size")
    result = compare(asked.console, side, tally, asked.resampled)
    return {
        **result,
        "samples": len(files),
        "generated": str(fake),
        "real": str(real),
        **{f"fid.{name}": value for name, value in extractor.about().items()},
        "fid.reference_samples": side.count if side.count is not None else "unknown",
        "warnings": doubts(extractor, width, {"real": side.count, "generated": len(files)}),
    }


def folder_statistics(folder: Path, settings: Metrics, asked: Asked) -> dict[str, Any]:
    """Writes the statistics of a folder's images to `asked.statistics`."""
    extractor = _extractor(settings, asked)
    side = _folder_side(folder, extractor, asked)
    return {
        "statistics": str(asked.statistics),
        "samples": side.count,
        **{f"fid.{name}": value for name, value in extractor.about().items()},
        "warnings": doubts(extractor, len(side.gaussian.mean), {"real": side.count}),
    }


def _generated(game: Game, count: int) -> Iterator[Tensor]:
    return (sample_range(game, start, stop) for start, stop in shares(count, batch_of(game.shape)))


def _real_side(reference: Reference, dataset: Dataset, settings: Metrics, asked: Asked) -> Side:
    """Of the train set; of published statistics no images are at hand."""
    if settings.statistics is not None:
        return Side(reference.target.to("cpu"), reference.count)
    assert reference.count is not None
    count = reference.count
    key = side_key(f"{dataset.digest()} {count}", reference.extractor)
    return cached_side(
        asked.storage.resolve() / "cache" / f"side-{key}.safetensors",
        asked.console,
        lambda: tallied(asked.console, "real", reference.extractor, real_batches(dataset, count), count),
    )


def _published_side(file: Path, extractor: Extractor) -> Side:
    return Side(*published(file, extractor))


def _folder_side(folder: Path, extractor: Extractor, asked: Asked) -> Side:
    files = _at_least_two(folder)
    key = side_key(files_digest(folder, files), extractor)
    side = cached_side(
        asked.storage.resolve() / "cache" / f"side-{key}.safetensors",
        asked.console,
        lambda: tallied(asked.console, "real", extractor, _read(files, extractor), len(files)),
    )
    if asked.statistics is not None:
        _write_statistics(asked.statistics, side.gaussian, extractor, side.count)
    return side


def _at_least_two(folder: Path) -> list[Path]:
    files = image_files(folder)
    if len(files) < 2:
        raise SettingsError(f"{folder} holds {len(files)} image; nearest: 2, of which a covariance can be had")
    return files


def _read(files: list[Path], extractor: Extractor) -> Iterator[Tensor]:
    """In batches, uint8; Inception looks at colour images."""
    for images in image_batches(files, FOLDER_BATCH, 3 if isinstance(extractor.net, InceptionV3) else None):
        width = math.prod(images.shape[1:])
        if isinstance(extractor.net, Pixels) and width > WIDEST:
            raise SettingsError(too_wide(width))
        yield images


def _extractor(settings: Metrics, asked: Asked) -> Extractor:
    """For images without a data set of ganfleet's."""
    if settings.extractor == "auto":
        raise SettingsError(
            "metrics.extractor=auto needs data that ganfleet knows; nearest: metrics.extractor=inception-v3 with"
            " metrics.download=true or metrics.weights=FILE, or metrics.extractor=pixels"
        )
    cache = asked.storage.resolve() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return build_extractor(with_weights(settings, cache, asked.console), settings.extractor, None).to(best_device())


def _write_statistics(file: Path, gaussian: Gaussian, extractor: Extractor, count: int | None) -> None:
    about = {**extractor.about(), **({} if count is None else {"samples": str(count)})}
    write_statistics(file, gaussian, about)


def _of_samples(dataset: Dataset, game: Game, count: int, folder: Path) -> dict[str, Any]:
    """Measures in the data's own space rather than an extractor's."""
    found: dict[str, Any] = {}
    if dataset.modes is None and dataset.held_out is None:
        return found
    samples = torch.cat(list(_generated(game, count))).float().cpu()
    if dataset.modes is not None:
        modes = mode_coverage(samples, dataset.modes.centres, dataset.modes.sigma)
        found |= {"modes": modes.modes, "modes_of": dataset.classes, "high_quality": modes.high_quality}
    if dataset.held_out is not None:
        flat, train, held_out = (images.flatten(1) for images in (samples, dataset.images, dataset.held_out))
        found |= _likelihood(flat, held_out)
        try:
            found |= _memorised(memorisation(flat, train, held_out), samples, dataset, folder)
        except ValueError as error:
            found["memorisation"] = f"none: {error}"
    return found


def _likelihood(samples: Tensor, held_out: Tensor) -> dict[str, float]:
    validation, test = held_out[::2], held_out[1::2]
    if len(test) < 2:
        return {}
    likelihood = parzen(samples, validation, test)
    return {"parzen": likelihood.mean, "parzen_se": likelihood.standard_error, "parzen_sigma": likelihood.sigma}


def _memorised(copies: Memorisation, samples: Tensor, dataset: Dataset, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"memorisation": copies.ratio, "memorisation_nearer": copies.nearer}
    if dataset.pictured:
        mine, theirs = copies.closest.T
        run = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
        file = run / f"memorisation-{folder.name}.png"
        write_atomic(file, png(pairs_picture(samples[mine], dataset.images[theirs])))
        found["memorisation_picture"] = str(file)
    return found
