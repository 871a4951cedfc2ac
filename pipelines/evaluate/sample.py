"""`ganfleet sample`: pictures of a checkpoint, and an animation of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from gan_core import checkpoint, data, streams
from gan_core.data.dataset import Dataset
from gan_core.loop import Game
from gan_core.settings import SettingsError, nearest
from infra.files import write_atomic
from pipelines.data.fetch import local_data
from pipelines.evaluate.pictures import (
    MOST_COLUMNS,
    PICTURED_SAMPLES,
    game_picture,
    grid,
    pairs_picture,
    png,
    samples_picture,
)
from pipelines.runs import named_classes
from pipelines.settings import Storage

Kind = Literal["samples", "interpolations", "reconstructions"]

STEPS = 10
"""Images in a row of an interpolation, with its two ends."""

ROWS = 8
"""The default number of interpolations, or of pairs of real image and reconstruction."""

FRAME_MILLISECONDS, LAST_MILLISECONDS = 200, 2000


def sample(
    folder: Path, out: Path, count: int | None, label: str | None, kind: Kind = "samples", packs: Storage | None = None
) -> str:
    """Draws a checkpoint's averaged generator as one PNG: `count` samples, rows of interpolations, or pairs of a real
    image and its reconstruction. The real images are held-out ones if there are any. Returns a line that names the
    classes in the picture; it is empty if there are none.

    `label`: the name of the only class to draw. `packs`: how to fetch the data if it is a pack. Raises SettingsError
    for what the family cannot do.
    """
    game = checkpoint.open_game(folder)
    dataset = data.load(local_data(game.experiment.data, packs or Storage()))
    number = None if label is None else _class_of(game, label)
    shown = "" if label is None else f"class {label}"
    if kind == "reconstructions":
        picture = _reconstructions(game, dataset, count or ROWS)
    elif kind == "interpolations":
        picture = grid(_interpolations(game, count or ROWS, number), columns=STEPS)
    elif number is not None:
        z = _latents(game, "picture", count or PICTURED_SAMPLES[True])
        picture = samples_picture(game.sample(z, torch.full((len(z),), number, device=game.device)), dataset.images)
    else:
        picture = game_picture(game, dataset, count)
        if game.conditional and dataset.is_images and game.classes <= MOST_COLUMNS:
            shown = f"classes, a column each: {', '.join(_names(game))}"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, png(picture))
    return shown


def animate(pictures: list[Path], out: Path) -> None:
    """Writes a GIF of a run's sample grids, oldest first. All show the same noise, and the last one stays longest.

    Raises SettingsError if there are fewer than two.
    """
    if len(pictures) < 2:
        raise SettingsError(f"an animation needs two sample grids, there are {len(pictures)}", nearest="no --animate")
    frames = [Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE) for path in pictures]
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, content.getvalue())


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Spherical interpolation between the rows of two (N, D) tensors. It keeps the norm that Gaussian points have.
    White 2016, arXiv:1609.04468."""
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    if bool((angle.sin().abs() < 1e-6).any()):
        return torch.lerp(start, end, share)
    return (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / angle.sin()


def _interpolations(game: Game, rows: int, label: int | None) -> Tensor:
    """Images (rows * STEPS, C, H, W). Each row leads from one latent point to another, within one class."""
    if len(game.shape) != 3:
        raise SettingsError("--interpolate draws images, these are points", nearest="no --interpolate")
    z = _latents(game, "interpolation", 2 * rows)
    path = torch.stack([slerp(z[::2], z[1::2], step / (STEPS - 1)) for step in range(STEPS)], dim=1).flatten(0, 1)
    if not game.conditional:
        return game.sample(path)
    labels = streams.labels_of(0, rows, game.classes, game.device) if label is None else torch.full((rows,), label)
    return game.sample(path, labels.to(game.device).repeat_interleave(STEPS))


def _reconstructions(game: Game, dataset: Dataset, count: int) -> Image.Image:
    if "encoder" not in game.averages:
        name = game.experiment.family.name
        raise SettingsError(f"--reconstruct needs an encoder, {name} has none", nearest="a run of vae or bigan")
    source = dataset.images if dataset.held_out is None else dataset.held_out
    real = source[:count].to(game.device, game.dtype)
    return pairs_picture(real, game.sample(game.encode(real)))


def _latents(game: Game, purpose: str, count: int) -> Tensor:
    experiment = game.experiment
    return streams.latents(experiment.seed, purpose, 0, count, experiment.family.latent, game.device, game.dtype)


def _names(game: Game) -> tuple[str, ...]:
    """The names of the classes. Checkpoints of earlier versions, and some data, have numbers only."""
    return game.class_names or tuple(map(str, range(game.classes)))


def _class_of(game: Game, label: str) -> int:
    """The number of the class with that name. Raises SettingsError with the nearest name."""
    if not game.conditional:
        raise SettingsError(
            f"--label={label}: {game.experiment.family.name} was not trained with labels", nearest="no --label"
        )
    names = _names(game)
    if label in names:
        return names.index(label)
    known = f"0 to {game.classes - 1}" if names == tuple(map(str, range(len(names)))) else named_classes(names)
    raise SettingsError(f"--label={label}: classes are {known}", nearest=f"--label={_nearest_class(label, names)}")


def _nearest_class(label: str, names: Sequence[str]) -> str:
    """The nearest number if all names are numbers; the name at that place if only the label is one."""
    try:
        number = int(label)
        return min(names, key=lambda name: abs(int(name) - number))
    except ValueError:
        if label.isdecimal() and int(label) < len(names):
            return names[int(label)]
    return nearest(label, names)
