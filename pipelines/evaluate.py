"""`ganfleet evaluate` and `ganfleet sample`: a checkpoint measured, and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gan_core import checkpoint, data
from gan_core.metrics.reference import Reference, sample_range
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.pictures import png, samples_picture
from pipelines.reference import obtain_reference


def evaluate(folder: Path, storage: Path) -> dict[str, Any]:
    """FID of a checkpoint against the whole train set of its data, and what it was measured with."""
    game = checkpoint.open_game(folder)
    settings = game.experiment
    content, about = obtain_reference(settings.metrics, settings.data, storage)
    reference = Reference.from_bytes(content, data.load(settings.data))
    samples = settings.metrics.samples or reference.moments.count
    return {
        "fid": reference.fid(game, samples),
        "samples": samples,
        "step": game.step,
        "images_seen": game.images_seen,
        "family": settings.family.name,
        "data": settings.data.name,
        "checkpoint": str(folder),
        **{key.removeprefix("ganfleet."): value for key, value in about.items()},
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
