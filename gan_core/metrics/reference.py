"""What generated samples are measured against: an extractor and the real data's moments, as one piece of bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import safetensors
import safetensors.torch
import torch

from gan_core import ranks, streams
from gan_core.data import Dataset
from gan_core.experiment import Metrics
from gan_core.loop import Game
from gan_core.metrics.extractors import CODE, Classifier, Extractor, Pixels, tensors_digest, train_classifier
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.statistics import Moments
from gan_core.recipe import Shape
from gan_core.settings import SettingsError

BATCH = 256


def extractor_name(settings: Metrics, data: Dataset) -> Literal["classifier", "pixels"]:
    """The extractor that `auto` stands for. Raises SettingsError for a classifier of points."""
    if settings.extractor == "classifier" and not data.pictured:
        raise SettingsError(
            f"metrics.extractor=classifier looks at images, {data.name} are points; nearest: metrics.extractor=pixels"
        )
    if settings.extractor != "auto":
        return settings.extractor
    return "classifier" if data.pictured and data.classes > 1 else "pixels"


@dataclass(frozen=True)
class Reference:
    """An extractor and the moments of the whole train set's features under it."""

    extractor: Extractor
    moments: Moments
    shape: Shape
    """Of one sample, and the number of its classes: what it fits."""
    classes: int

    @staticmethod
    def key(settings: Metrics, data: Dataset) -> str:
        """Under what a reference is cached: hash of the data's content, preprocessing, extractor and code."""
        weights = "" if settings.weights is None else hashlib.sha256(settings.weights.read_bytes()).hexdigest()
        return hashlib.sha256(
            "/".join([data.digest(), extractor_name(settings, data), weights, CODE]).encode()
        ).hexdigest()

    @staticmethod
    def build(settings: Metrics, data: Dataset) -> Reference:
        """Trains the classifier if the data needs one (seconds), then takes the moments of all of `data`."""
        if extractor_name(settings, data) == "pixels":
            extractor = Extractor(Pixels())
        elif settings.weights is not None:
            extractor = Reference.from_bytes(settings.weights.read_bytes(), data).extractor
        else:
            extractor = train_classifier(data)
        moments = [Moments.of(extractor.features(images)) for images in data.images.split(BATCH)]
        return Reference(extractor, reduce(Moments.merge, moments), data.shape, data.classes)

    def to_bytes(self) -> bytes:
        """One safetensors file: weights, moments, and their digest."""
        tensors = {f"extractor.{name}": value for name, value in self.extractor.net.state_dict().items()}
        tensors |= {"mean": self.moments.mean, "scatter": self.moments.scatter}
        tensors["count"] = torch.tensor(self.moments.count)
        about = {
            "extractor": self.extractor.net.name,
            "accuracy": json.dumps(self.extractor.accuracy),
            "shape": json.dumps([*self.shape, self.classes]),
        }
        return safetensors.torch.save(tensors, {**about, "digest": _digest(about, tensors)})

    @staticmethod
    def from_bytes(content: bytes, data: Dataset) -> Reference:
        """What `to_bytes` wrote, for data of the same shape. Raises ValueError if it is damaged or does not fit."""
        try:
            tensors = safetensors.torch.load(content)
            size = int.from_bytes(content[:8], "little")
            about = json.loads(content[8 : 8 + size])["__metadata__"]
            if about.pop("digest") != _digest(about, tensors):
                raise ValueError("its digest does not match")
            if json.loads(about["shape"]) != [*data.shape, data.classes]:
                raise ValueError(f"it is of samples of shape {about['shape']}")
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"not a reference of {data.name}: {' '.join(str(error).split())}") from None
        net = Pixels() if about["extractor"] == Pixels.name else Classifier(data.shape, data.classes)
        net.load_state_dict({name[10:]: value for name, value in tensors.items() if name.startswith("extractor.")})
        net.requires_grad_(False).eval()
        moments = Moments(int(tensors["count"]), tensors["mean"], tensors["scatter"])
        return Reference(Extractor(net, json.loads(about["accuracy"])), moments, data.shape, data.classes)

    def to(self, device: torch.device | str) -> Reference:
        """The same on a device."""
        net = self.extractor.net.to(device)
        moments = Moments(self.moments.count, self.moments.mean.to(device), self.moments.scatter.to(device))
        return replace(self, extractor=Extractor(net, self.extractor.accuracy), moments=moments)

    def fid(self, game: Game, samples: int | None = None) -> float:
        """FID of the game's averaged generator; every rank scores its share and gets the same number.

        `samples`: as many as the reference if None. Raises ValueError if a feature is not finite.
        """
        count, world = samples or self.moments.count, ranks.world_size()
        first, last = ranks.rank() * count // world, (ranks.rank() + 1) * count // world
        moments, problem = Moments.none(self.moments.mean), ""
        try:
            for start in range(first, last, BATCH):
                part = sample_range(game, start, min(start + BATCH, last))
                moments = moments.merge(Moments.of(self.extractor.features(part)))
        except ValueError as error:
            problem = str(error)
        if float(ranks.total(torch.tensor(float(bool(problem)), device=game.device))):
            raise ValueError(problem or "another worker's features are not finite")
        return frechet_distance(self.moments, moments.over_ranks())


def sample_range(game: Game, start: int, stop: int, purpose: str = "evaluation") -> torch.Tensor:
    """Samples start .. stop of an endless fixed sequence, the same for any batch or world size."""
    z = streams.latents(
        game.experiment.seed, purpose, start, stop, game.experiment.family.latent, game.device, game.dtype
    )
    return game.sample(z)


def _digest(about: dict[str, str], tensors: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256((json.dumps(about, sort_keys=True) + tensors_digest(tensors)).encode()).hexdigest()
