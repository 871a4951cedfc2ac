"""`ganfleet evaluate` and `ganfleet sample`: a checkpoint measured, and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_core import checkpoint, data
from gan_core.metrics.coverage import mode_coverage
from gan_core.metrics.extractors import Classifier, Extractor
from gan_core.metrics.inception_score import inception_score
from gan_core.metrics.precision_recall import precision_recall
from gan_core.metrics.reference import BATCH, Reference, sample_range
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.pictures import png, samples_picture
from pipelines.reference import obtain_reference

FEWEST = 20
"""Samples for an Inception Score in ten splits; with fewer the measures beside FID are left out."""


def evaluate(folder: Path, storage: Path) -> dict[str, Any]:
    """FID of a checkpoint against the whole train set of its data, and what it was measured with.

    Beside it, of the same samples: Inception Score, precision and recall under the classifier of labelled images;
    modes covered and the share of high-quality samples for mixtures.
    """
    game = checkpoint.open_game(folder)
    settings = game.experiment
    dataset = data.load(settings.data)
    content, about = obtain_reference(settings.metrics, settings.data, storage)
    reference = Reference.from_bytes(content, dataset)
    samples = settings.metrics.samples or reference.moments.count
    drawn = [sample_range(game, start, min(start + BATCH, samples)) for start in range(0, samples, BATCH)]
    return {
        "fid": reference.fid(game, samples),
        **_beside(reference.extractor, dataset, drawn),
        "samples": samples,
        "step": game.step,
        "images_seen": game.images_seen,
        "family": settings.family.name,
        "data": settings.data.name,
        "checkpoint": str(folder),
        **{key.removeprefix("ganfleet."): value for key, value in about.items()},
    }


def _beside(extractor: Extractor, dataset: data.Dataset, drawn: list[Tensor]) -> dict[str, float | int]:
    """The measures that apply to the data, of samples in batches."""
    if dataset.modes is not None:
        found = mode_coverage(torch.cat(drawn), dataset.modes.centres.to(drawn[0].dtype), dataset.modes.sigma)
        return {"modes": found.modes, "modes_of": dataset.classes, "high_quality": found.high_quality}
    if not isinstance(extractor.net, Classifier) or sum(map(len, drawn)) < FEWEST:
        return {}
    score = inception_score(torch.cat([extractor.net.logits(images.float()) for images in drawn]))
    real, fake = (
        torch.cat([extractor.features(images) for images in batches])
        for batches in (dataset.images.split(BATCH), drawn)
    )
    shares = precision_recall(real, fake)
    return {
        "inception_score": score.mean,
        "inception_score_std": score.std,
        "precision": shares.precision,
        "recall": shares.recall,
    }


def sample(folder: Path, out: Path, count: int, label: int | None) -> None:
    """Draws `count` samples of a checkpoint's averaged generator as one PNG.

    Raises SettingsError if the family knows no labels, or `out` cannot be written as a PNG.
    """
    if out.suffix.lower() != ".png":
        raise SettingsError(f"--out={out} is not a PNG file; nearest: --out {out.with_suffix('.png')}")
    game = checkpoint.open_game(folder)
    if label is not None:
        raise SettingsError(
            f"--label={label}: {game.experiment.family.name} was not trained with labels; nearest: no --label"
        )
    real = data.load(game.experiment.data).images
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, png(samples_picture(sample_range(game, 0, count, purpose="picture"), real)))
