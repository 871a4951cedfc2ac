"""Measures of the samples themselves, without an extractor: modes, likelihood, memorisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from gan_core.data.dataset import Dataset
from gan_core.metrics.coverage import mode_coverage
from gan_core.metrics.memorisation import Memorisation, memorisation
from gan_core.metrics.parzen import parzen
from infra.files import write_atomic
from pipelines.evaluate.pictures import pairs_picture, png


def of_samples(dataset: Dataset, samples: Tensor, folder: Path) -> dict[str, Any]:
    """Those that the data allow. `folder`: the checkpoint's, whose run gets the picture of the nearest pairs."""
    found: dict[str, Any] = {}
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
    if dataset.is_images:
        mine, theirs = copies.closest.T
        run = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
        file = run / f"memorisation-{folder.name}.png"
        write_atomic(file, png(pairs_picture(samples[mine], dataset.images[theirs])))
        found["memorisation_picture"] = str(file)
    return found
