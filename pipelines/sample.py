"""`ganfleet sample`: a checkpoint drawn."""

from __future__ import annotations

from pathlib import Path

from gan_core import checkpoint, data
from gan_core.metrics.scores import sample_range
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.pictures import png, samples_picture


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
