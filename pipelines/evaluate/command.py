"""`ganfleet evaluate`: compares a checkpoint with its data, or a folder of images with another folder or with published
statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from gan_core import checkpoint, data
from gan_core.data.dataset import Dataset
from gan_core.data.image_files import Colours, colours, files_digest, image_batches, image_files, read_image
from gan_core.loop import Game
from gan_core.measures import Metrics
from gan_core.metrics.extractors.extractor import Extractor, PixelFeatures
from gan_core.metrics.extractors.inception import InceptionV3
from gan_core.metrics.fid import Gaussian
from gan_core.metrics.scores import rank_batches, sample_count, sample_range
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
from gan_core.streams import labels_of
from pipelines.console import count_bar
from pipelines.data.fetch import local_data
from pipelines.evaluate._comparison import FeatureStatistics, cached_statistics, compare, measure_images, of_own
from pipelines.evaluate._samples import of_samples
from pipelines.evaluate.detail.by_class import by_class, check_by_class
from pipelines.evaluate.detail.curve import write_curve
from pipelines.evaluate.real_data import data_warnings
from pipelines.evaluate.reference import best_device, prepare_reference, reference_warnings, with_weights
from pipelines.runs import named_classes, shared_cache
from pipelines.settings import Storage

FOLDER_BATCH = 64
"""How many images of a folder are measured at once, whatever their size."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What `ganfleet evaluate` does besides measuring, and where it reads and writes."""

    storage: Path
    console: Console
    resampled: bool = False
    """Whether to compute a confidence interval of FID by the bootstrap."""
    statistics: Path | None = None
    """Where to write the mean and covariance of the real images, in the format of published statistics."""
    packs: Storage = field(default_factory=Storage)
    """How to fetch the data of a checkpoint if it is a pack. Reference statistics are shared there if it is in S3."""
    by_class: bool = False
    """Whether to compute the FID of each class, too."""
    curve: tuple[Path, Path] | None = None
    """Where to write the curve of precision against recall: a picture and a table."""


def evaluate_checkpoint(folder: Path, settings: Metrics, options: EvaluateOptions) -> dict[str, Any]:
    """Compares a checkpoint with the train set of its data. Returns the measures and what they were measured with.

    The measures are FID, Inception Score, precision, recall, and KID if its kernel fits the extractor; the modes for
    mixtures; with held-out data also memorisation and Parzen's log-likelihood. All look at the same samples.
    """
    game = checkpoint.open_game(folder, best_device())
    local = local_data(game.experiment.data, options.packs, options.console)
    dataset = data.load(local, bars=partial(count_bar, options.console))
    shared_reference = prepare_reference(
        settings, dataset, options.storage, options.console, shared_cache(options.packs)
    )
    reference = Reference.from_bytes(shared_reference.content, dataset).to(best_device())
    extractor = reference.extractor
    count = sample_count(settings.samples, reference)
    labels = None
    if options.by_class:
        check_by_class(game, dataset, reference, settings, count)
        labels = labels_of(0, count, game.classes, "cpu")
    keep = count if options.resampled else KEPT
    fake = measure_images(options.console, "generated", extractor, _generated(game, count), count, keep, labels=labels)
    real = _real_statistics(reference, dataset, settings, options)
    result = compare(options.console, real, fake, options.resampled, settings.measures)
    if options.curve is not None:
        result |= write_curve(real.features, fake.features()[:KEPT], *options.curve)
    if options.by_class:
        result["by_class"] = by_class(dataset, reference, fake)
    if dataset.modes is not None or dataset.held_out is not None:
        samples = torch.cat(list(_generated(game, min(count, KEPT)))).float().cpu()
        result |= of_samples(dataset, samples, folder)
    result |= of_own(settings, game, reference, _generated(game, count))
    if options.statistics is not None:
        _write_statistics(options.statistics, reference.target.to("cpu"), extractor, reference.count)
    return {
        **result,
        "samples": count,
        "step": game.step,
        "images_seen": game.images_seen,
        "family": game.experiment.family.name,
        "data": game.experiment.data.name,
        **({"classes": named_classes(dataset.class_names)} if dataset.class_names else {}),
        "checkpoint": str(folder),
        **{key.removeprefix("ganfleet."): value for key, value in shared_reference.tags.items()},
        "warnings": [
            *dataset.notes,
            *data_warnings(folder, dataset),
            *reference_warnings(extractor, len(reference.target.mean), {"real": reference.count, "generated": count}),
        ],
    }


def evaluate_images(fake: Path, real: Path, settings: Metrics, options: EvaluateOptions) -> dict[str, Any]:
    """Compares a folder of images with another folder, or with an npz file of published statistics.

    If any image of both folders is in colour, grey ones are measured with three equal channels. Raises ValueError for a
    folder with fewer than two images, for images of several sizes, and for statistics that do not fit the extractor.
    """
    extractor = _extractor(settings, options)
    folders = [_Folder.of(place) for place in ([fake] if real.is_file() else [fake, real])]
    generated, channels = folders[0], max(folder.colours.channels for folder in folders)
    if real.is_file():
        real_statistics = FeatureStatistics(*published(real, extractor))
    else:
        real_statistics = _measure_folder(folders[1], channels, extractor, options)
    count = len(generated.files)
    keep = count if options.resampled else KEPT
    batches = _read(generated.files, channels, extractor)
    tally = measure_images(options.console, "generated", extractor, batches, count, keep)
    assert tally.moments is not None
    width, wanted = len(tally.moments.mean), len(real_statistics.gaussian.mean)
    if width != wanted:
        raise _other_width(folders, width, real, wanted, extractor)
    curve = {} if options.curve is None else write_curve(real_statistics.features, tally.features(), *options.curve)
    return {
        **compare(options.console, real_statistics, tally, options.resampled),
        **curve,
        "samples": count,
        "generated": str(fake),
        "real": str(real),
        **{f"fid.{name}": value for name, value in extractor.about().items()},
        "fid.reference_samples": real_statistics.count if real_statistics.count is not None else "unknown",
        "warnings": [
            *_grey_notes(folders, channels),
            *reference_warnings(extractor, width, {"real": real_statistics.count, "generated": count}),
        ],
    }


def write_folder_statistics(folder: Path, settings: Metrics, options: EvaluateOptions) -> dict[str, Any]:
    """Measures the images of a folder and writes their statistics to `options.statistics`."""
    extractor = _extractor(settings, options)
    real = _Folder.of(folder)
    real_statistics = _measure_folder(real, real.colours.channels, extractor, options)
    return {
        "statistics": str(options.statistics),
        "samples": real_statistics.count,
        **{f"fid.{name}": value for name, value in extractor.about().items()},
        "warnings": [
            *_grey_notes([real], real.colours.channels),
            *reference_warnings(extractor, len(real_statistics.gaussian.mean), {"real": real_statistics.count}),
        ],
    }


def _generated(game: Game, count: int) -> Iterator[Tensor]:
    return (sample_range(game, start, stop) for start, stop in rank_batches(count, batch_of(game.shape)))


def _real_statistics(
    reference: Reference, dataset: Dataset, settings: Metrics, options: EvaluateOptions
) -> FeatureStatistics:
    """Of the train set, or the published statistics, which come without images."""
    if settings.statistics is not None:
        return FeatureStatistics(reference.target.to("cpu"), reference.count)
    assert reference.count is not None
    count = reference.count
    digest, batches = f"{dataset.digest()} {count}", real_batches(dataset, count)
    return cached_statistics(options.storage, options.console, digest, reference.extractor, batches, count)


@dataclass(frozen=True)
class _Folder:
    """A folder of images to measure."""

    place: Path
    files: list[Path]
    colours: Colours

    @staticmethod
    def of(place: Path) -> _Folder:
        """Raises ValueError if there are fewer than two images."""
        files = image_files(place)
        if len(files) < 2:
            raise SettingsError(f"{place} holds {len(files)} image", nearest="2, of which a covariance can be had")
        return _Folder(place, files, colours(files))


def _grey_notes(folders: Sequence[_Folder], channels: int) -> Iterator[str]:
    for folder in folders:
        if channels == 3 and folder.colours.grey and any(one.colours.colour for one in folders):
            yield (
                f"{folder.colours.grey} of {len(folder.files)} images of {folder.place} are grey: they are measured"
                " with three equal channels"
            )


def _other_width(
    folders: Sequence[_Folder], width: int, real: Path, wanted: int, extractor: Extractor
) -> SettingsError:
    """The error for two sides whose features differ in number."""
    name = extractor.net.name
    if len(folders) == 2:
        one, other = ("{}x{}".format(*read_image(folder.files[0]).size) for folder in folders)
        wrong = f"{folders[0].place} holds images of {one} pixels, {real} of {other}: {width} and {wanted} features"
        right = f"images of {other} in both, or metrics.extractor={InceptionV3.name}, which resizes them"
    else:
        wrong = f"{real} is of {wanted} features an image, {name} gives {width} of {folders[0].place}"
        right = f"metrics.extractor={InceptionV3.name}"
        if wanted != InceptionV3.width or name == InceptionV3.name:
            right = f"ganfleet evaluate REAL_FOLDER metrics.extractor={name} --save-stats FILE.npz"
    return SettingsError(wrong, nearest=right)


def _measure_folder(
    folder: _Folder, channels: int, extractor: Extractor, options: EvaluateOptions
) -> FeatureStatistics:
    digest = f"{files_digest(folder.place, folder.files)} {channels}"
    batches, count = _read(folder.files, channels, extractor), len(folder.files)
    statistics = cached_statistics(options.storage, options.console, digest, extractor, batches, count)
    if options.statistics is not None:
        _write_statistics(options.statistics, statistics.gaussian, extractor, statistics.count)
    return statistics


def _read(files: list[Path], channels: int, extractor: Extractor) -> Iterator[Tensor]:
    """Batches (N, C, H, W) of uint8."""
    for images in image_batches(files, FOLDER_BATCH, channels):
        width = math.prod(images.shape[1:])
        if isinstance(extractor.net, PixelFeatures) and width > WIDEST:
            raise too_wide(width)
        yield images


def _extractor(settings: Metrics, options: EvaluateOptions) -> Extractor:
    """The extractor for images in folders, which belong to no dataset of ganfleet."""
    if settings.extractor == "auto":
        raise SettingsError(
            "metrics.extractor=auto needs data that ganfleet knows",
            nearest="metrics.extractor=inception-v3 with metrics.download=true or metrics.weights=FILE, or"
            " metrics.extractor=pixels",
        )
    cache = options.storage.resolve() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return build_extractor(with_weights(settings, cache, options.console), settings.extractor, None).to(best_device())


def _write_statistics(file: Path, gaussian: Gaussian, extractor: Extractor, count: int | None) -> None:
    about = {**extractor.about(), **({} if count is None else {"samples": str(count)})}
    write_statistics(file, gaussian, about)
