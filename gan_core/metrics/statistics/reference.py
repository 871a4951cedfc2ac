"""Reference statistics, which samples are measured against: an extractor and the Gaussian of the real features."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gan_core import streams
from gan_core.data.dataset import Dataset, Modes
from gan_core.files import Bars, file_digest, no_bars
from gan_core.measures import Metrics
from gan_core.metrics.extractors.classifier import SMALLEST_LABELLED, Classifier, classifier_of, train_classifier
from gan_core.metrics.extractors.custom_extractor import custom_extractor, custom_net
from gan_core.metrics.extractors.dinov2 import DinoV2, fetched, load_dinov2
from gan_core.metrics.extractors.extractor import CODE, Extractor, FeatureNet, PixelFeatures, tensors_digest
from gan_core.metrics.extractors.inception import InceptionV3, load_inception
from gan_core.metrics.fid import Gaussian
from gan_core.metrics.statistics.statistics_file import read_statistics
from gan_core.metrics.statistics.tally import Tally, kept_rows
from gan_core.recipe import Shape
from gan_core.settings import SettingsError

BATCH = 256
"""Images measured at once, unless they are large."""

VALUES = 2**23
"""Largest number of values measured at once: 32 MB of float32, and a few times that for intermediate results."""

WIDEST = 4096
"""Largest number of pixels that may be features: their covariance takes 128 MB."""


def extractor_name(settings: Metrics, data: Dataset) -> str:
    """The extractor's name, with `auto` resolved. Raises SettingsError for points and an extractor of images."""
    if settings.extractor == "auto":
        return "classifier" if data.is_images and data.classes > 1 else "pixels"
    if settings.extractor != "pixels" and not data.is_images:
        raise SettingsError(
            f"metrics.extractor={settings.extractor} looks at images, {data.name} are points",
            nearest="metrics.extractor=pixels",
        )
    return settings.extractor


def build_extractor(
    settings: Metrics, name: str, data: Dataset | None, device: torch.device | str = "cpu", bars: Bars = no_bars
) -> Extractor:
    """The extractor of that name, on a device. A classifier without weights is trained there on `data`.

    Raises ValueError for weights that are missing, damaged or of another network.
    """
    weights, quantise = settings.weights, settings.quantise
    if name == PixelFeatures.name:
        return Extractor(PixelFeatures(), quantise=quantise).to(device)
    if name == InceptionV3.name:
        assert weights is not None, "Metrics asks for them"
        return Extractor(load_inception(weights), file_digest(weights), quantise).to(device)
    if name == DinoV2.name:
        weights = weights or fetched(download=False)
        return Extractor(load_dinov2(weights), file_digest(weights), quantise).to(device)
    if name != Classifier.name:
        return custom_extractor(name, weights, quantise).to(device)
    if data is None:
        raise SettingsError(
            "metrics.extractor=classifier needs a data set with labels, not folders of images",
            nearest="metrics.extractor=pixels, or inception-v3 with metrics.download=true or metrics.weights=FILE",
        )
    if weights is not None:
        return replace(Reference.from_bytes(weights.read_bytes(), data).extractor, quantise=quantise).to(device)
    _check_labelled(settings, data)
    net, accuracy = train_classifier(data, device=device, bars=bars)
    if not bool(net.scale.isfinite()):
        raise SettingsError(
            f"metrics.extractor={settings.extractor}: the features of all {len(data.images)} images are equal",
            nearest="metrics.extractor=pixels",
        )
    return Extractor(net, quantise=quantise, accuracy=accuracy, device=device)


def _check_labelled(settings: Metrics, data: Dataset) -> None:
    """Raises SettingsError if a classifier of the data's labels would tell nothing about images."""
    count, setting = len(data.images), f"metrics.extractor={settings.extractor}"
    wrong = ""
    if count < SMALLEST_LABELLED:
        wrong = f"{setting} trains a classifier, which takes {SMALLEST_LABELLED} labelled images, not {count}"
    elif data.all_equal:
        wrong = f"{setting} trains a classifier, and all {count} labelled images are equal"
    if wrong:
        raise SettingsError(wrong, nearest="metrics.extractor=pixels")


def batch_of(shape: Shape) -> int:
    """How many samples of that shape are measured at once."""
    return max(1, min(BATCH, VALUES // math.prod(shape)))


@dataclass(frozen=True)
class Reference:
    """An extractor and the Gaussian of the train set's features under it."""

    extractor: Extractor
    target: Gaussian
    count: int | None
    """Number of real images in the Gaussian; None if published statistics do not state it."""
    shape: Shape
    """Shape of one sample of the data."""
    classes: int
    modes: Modes | None
    weights: Path | None = None
    """File of Inception's or DINOv2's weights, which are too large for `to_bytes`."""
    content: str = ""
    """`Dataset.content` of the data that a driver gave it to its workers for."""
    images: Tensor | None = None
    """The real images, for measures that look at single ones. They are not part of `to_bytes`."""
    features: Tensor | None = None
    """Features (K, D) of at most `KEPT` of the images that the Gaussian is of; see `with_features`."""

    @staticmethod
    def key(settings: Metrics, data: Dataset) -> str:
        """The cache key of a reference: a hash of the data's content, preprocessing, extractor and code."""
        name = extractor_name(settings, data)
        parts = [data.digest(), name, repr((settings.quantise, settings.reference_samples)), CODE]
        parts += ["" if file is None else file_digest(file) for file in (settings.weights, settings.statistics)]
        if ":" in name:
            parts.append(custom_extractor(name, None, settings.quantise).digest)
        return hashlib.sha256("/".join(parts).encode()).hexdigest()

    @staticmethod
    def build(settings: Metrics, data: Dataset, device: torch.device | str = "cpu", bars: Bars = no_bars) -> Reference:
        """Builds the extractor, then the statistics of `data` on a device, or reads those of `metrics.statistics`."""
        extractor = build_extractor(settings, extractor_name(settings, data), data, device, bars)
        if isinstance(extractor.net, PixelFeatures) and data.is_images and math.prod(data.shape) > WIDEST:
            raise too_wide(math.prod(data.shape))
        fits = (data.shape, data.classes, data.modes)
        weights = settings.weights if isinstance(extractor.net, InceptionV3 | DinoV2) else None
        if settings.statistics is not None:
            target, count = published(settings.statistics, extractor)
            width = extractor.features(data.images[:2]).shape[1]
            if width != len(target.mean):
                raise ValueError(f"it is of {len(target.mean)} features, {extractor.net.name} gives {width}")
            return Reference(extractor.to("cpu"), target, count, *fits, weights, images=data.images)
        count = min(settings.reference_samples or len(data.images), len(data.images))
        with bars("real images measured", count) as move:
            tally = Tally(extractor, count).extend(real_batches(data, count), move, core_each=extractor.core_each)
        assert tally.moments is not None
        gaussian = tally.moments.gaussian.to("cpu")
        return Reference(extractor.to("cpu"), gaussian, count, *fits, weights, images=data.images)

    def to_bytes(self) -> bytes:
        """One safetensors file of weights, mean and covariance, with a digest."""
        tensors = {"mean": self.target.mean, "covariance": self.target.covariance}
        if self.weights is None:
            tensors |= {f"extractor.{name}": value for name, value in self.extractor.net.state_dict().items()}
        about = {
            "extractor": self.extractor.net.name,
            "extractor_digest": self.extractor.digest,
            "weights": json.dumps(None if self.weights is None else str(self.weights)),
            "quantise": json.dumps(self.extractor.quantise),
            "accuracy": json.dumps(self.extractor.accuracy),
            "count": json.dumps(self.count),
            "shape": json.dumps([*self.shape, self.classes]),
            **({"content": self.content} if self.content else {}),
        }
        return safetensors.torch.save(tensors, {**about, "digest": _digest(about, tensors)})

    @staticmethod
    def from_bytes(content: bytes, data: Dataset) -> Reference:
        """Reads what `to_bytes` wrote, for data of that shape. Raises ValueError if it is damaged or does not fit."""
        try:
            tensors = safetensors.torch.load(content)
            about = _about(content)
            if about.pop("digest") != _digest(about, tensors):
                raise ValueError("its digest does not match")
            if json.loads(about["shape"]) != [*data.shape, data.classes]:
                raise ValueError(f"it is of samples of shape {about['shape']}")
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"not a reference of {data.name}: {' '.join(str(error).split())}") from None
        weights = None if about["weights"] == "null" else Path(json.loads(about["weights"]))
        net = _net(about["extractor"], tensors, weights, data)
        digest = about["extractor_digest"]
        if weights is not None and file_digest(weights) != digest:
            raise ValueError(f"{weights} is no longer the file that this reference was made with")
        extractor = Extractor(net, digest, json.loads(about["quantise"]), json.loads(about["accuracy"]))
        target = Gaussian(tensors["mean"], tensors["covariance"])
        fits = (data.shape, data.classes, data.modes)
        count = json.loads(about["count"])
        return Reference(extractor, target, count, *fits, weights, images=data.images)

    def to(self, device: torch.device | str) -> Reference:
        """The same on a device."""
        return replace(self, extractor=self.extractor.to(device), target=self.target.to(device))

    def with_features(self) -> Reference:
        """The same with features of real images, those that a tally of all of them would keep."""
        assert self.images is not None
        assert self.count is not None
        rows = reference_rows(len(self.images), self.count)
        rows = rows[kept_rows(len(rows))]
        batches = (self.images[some] for some in rows.split(batch_of(self.shape)))
        return replace(self, features=torch.cat([self.extractor.features(batch).cpu() for batch in batches]))


def check_content(reference: bytes, data: Dataset) -> None:
    """Raises SettingsError if a worker's data were read from other files than those of the driver that made the bytes.

    Files may have changed since, or another machine may have others.
    """
    wanted = _about(reference).get("content", "")
    if wanted and data.content != wanted:
        raise SettingsError(
            f"the files of data.name={data.name} are others in this process than when the run was started:"
            f" {data.content[:12]}, not {wanted[:12]}",
            nearest="the same files on all machines, as long as the run or search lasts",
        )


def too_wide(width: int) -> SettingsError:
    """The error for images with too many values to be features."""
    return SettingsError(
        f"metrics.extractor=pixels on images of {width} values needs a covariance of {width}x{width}",
        nearest="metrics.extractor=inception-v3",
    )


def published(file: Path, extractor: Extractor) -> tuple[Gaussian, int | None]:
    """Statistics from an npz file, and their number of images if the file states it.

    Raises ValueError if the file names another extractor.
    """
    target, about = read_statistics(file)
    mine = extractor.about()
    for key in ("extractor", "weights", "resize", "input_range"):
        if about.get(key, mine[key]) != mine[key]:
            raise ValueError(f"{file} was made with {key.replace('_', ' ')} {about[key]}, not {mine[key]}")
    return target, int(about["samples"]) if "samples" in about else None


def real_batches(data: Dataset, count: int) -> Iterator[Tensor]:
    """`count` of the train set's images in batches. A fixed seed chooses them if they are not all."""
    if count >= len(data.images):
        yield from data.images.split(batch_of(data.shape))
        return
    for some in reference_rows(len(data.images), count).split(batch_of(data.shape)):
        yield data.images[some]


def labelled_batches(data: Dataset, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of `real_batches` with their labels."""
    for some in reference_rows(len(data.images), count).split(batch_of(data.shape)):
        yield data.images[some], data.labels[some]


def reference_rows(images: int, count: int) -> Tensor:
    """The numbers of `count` of so many real images, chosen by a fixed seed and in their order."""
    if count >= images:
        return torch.arange(images)
    return torch.randperm(images, generator=streams.seeded("cpu", "reference samples"))[:count].sort().values


def _net(name: str, tensors: dict[str, Tensor], weights: Path | None, data: Dataset) -> FeatureNet:
    net: FeatureNet
    if weights is not None:
        return load_dinov2(weights) if name == DinoV2.name else load_inception(weights)
    if name == PixelFeatures.name:
        net = PixelFeatures()
    elif name == Classifier.name:
        net = classifier_of(data).double()
    else:
        net = custom_net(name)
    net.load_state_dict({key[10:]: value for key, value in tensors.items() if key.startswith("extractor.")})
    return net.requires_grad_(False).eval()


def _about(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    about: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return about


def _digest(about: dict[str, str], tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256((json.dumps(about, sort_keys=True) + tensors_digest(tensors)).encode()).hexdigest()
