"""`ganfleet sample`: pictures of a checkpoint, and an animation of a run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from gan_core import checkpoint, data, streams
from gan_core.data.dataset import Dataset
from gan_core.loop import Game
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.data.fetch import local_data
from pipelines.evaluate.drawing import Drawing, class_names
from pipelines.evaluate.pictures import (
    captioned,
    class_columns,
    grid,
    next_to,
    pairs_picture,
    pictured_samples,
    png,
    samples_picture,
)
from pipelines.runs import step_of
from pipelines.settings import Storage

Kind = Literal["samples", "real", "interpolations", "reconstructions"]
STEPS = 10
"""Images in a row of an interpolation, with its two ends."""

ROWS = 8
"""The default number of interpolations, or of pairs of real image and reconstruction."""

ALL = Drawing()
"""Samples of all classes, from the run's own seed."""

FRAME_MILLISECONDS, LAST_MILLISECONDS = 200, 2000


def sample(
    folder: Path,
    out: Path,
    count: int | None,
    drawing: Drawing = ALL,
    kind: Kind = "samples",
    packs: Storage | None = None,
) -> str:
    """Draws a checkpoint's averaged generator as one PNG: `count` samples, the same next to real images, rows of
    interpolations, or pairs of a real image and its reconstruction. The real images are held-out ones if there are any.
    Returns a line that names the classes in the picture; it is empty if there are none.

    `packs`: how to fetch the data if it is a pack. Raises SettingsError for what the family cannot do.
    """
    game = checkpoint.open_game(folder)
    dataset = data.load(local_data(game.experiment.data, packs or Storage()))
    drawing.check(game)
    number = drawing.class_number(game)
    shown = "" if number is None else f"class {drawing.label}"
    if kind == "reconstructions":
        picture = _reconstructions(game, dataset, count or ROWS)
    elif kind == "interpolations":
        picture = grid(_interpolations(game, drawing, count or ROWS), columns=STEPS)
    else:
        columns = class_columns(game) if number is None else None
        if columns is not None and dataset.is_images:
            shown = f"classes, a column each: {', '.join(class_names(game))}"
        count = count or pictured_samples(columns, dataset.is_images)
        if kind == "real":
            picture = _next_to_real(game, dataset, drawing, count, columns)
        else:
            picture = samples_picture(drawing.samples(game, 0, count), dataset.images, columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, png(picture))
    return shown


def animate(pictures: list[Path], out: Path) -> None:
    """Writes a GIF of a run's sample grids with their steps, oldest first. All show the same noise, and the last one
    stays longest.

    Raises SettingsError if there are fewer than two.
    """
    if len(pictures) < 2:
        raise SettingsError(f"an animation needs two sample grids, there are {len(pictures)}", nearest="no --animate")
    sheets = [captioned(Image.open(path), f"step {step_of(path.with_suffix(''))}") for path in pictures]
    frames = [sheet.convert("P", palette=Image.Palette.ADAPTIVE) for sheet in sheets]
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


def _interpolations(game: Game, drawing: Drawing, rows: int) -> Tensor:
    """Images (rows * STEPS, C, H, W). Each row leads from one latent point to another, within one class."""
    if len(game.shape) != 3:
        raise SettingsError("--interpolate draws images, these are points", nearest="no --interpolate")
    z = drawing.latents(game, "interpolation", 0, 2 * rows)
    between = slerp if game.experiment.family.z == "normal" else torch.lerp
    path = torch.stack([between(z[::2], z[1::2], step / (STEPS - 1)) for step in range(STEPS)], dim=1).flatten(0, 1)
    labels = drawing.labels(game, 0, rows)
    return drawing.sampled(game, path, None if labels is None else labels.repeat_interleave(STEPS))


def _reconstructions(game: Game, dataset: Dataset, count: int) -> Image.Image:
    if "encoder" not in game.averages:
        name = game.experiment.family.name
        raise SettingsError(f"--reconstruct needs an encoder, {name} has none", nearest="a run of vae or bigan")
    real = _real(dataset)[0][:count].to(game.device, game.dtype)
    return pairs_picture(real, game.sample(game.encode(real)))


def _real(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The real images to show, and their labels."""
    if dataset.held_out is None or dataset.held_out_labels is None:
        return dataset.images, dataset.labels
    return dataset.held_out, dataset.held_out_labels


def _next_to_real(game: Game, dataset: Dataset, drawing: Drawing, count: int, columns: int | None) -> Image.Image:
    """Samples next to as many real images. If the samples have classes, a real image has the class of the sample at its
    place."""
    if not dataset.is_images:
        raise SettingsError("--real is of images: points are drawn over the real ones anyway", nearest="no --real")
    images, known = _real(dataset)
    order = torch.randperm(len(images), generator=streams.seeded("cpu", drawing.seed_of(game), "real"))
    wanted = drawing.labels(game, 0, count)
    places = _cycled(order, count) if wanted is None else _of_classes(game, order, known.cpu()[order], wanted.cpu())
    samples = grid(drawing.samples(game, 0, count), columns)
    return next_to(captioned(samples, "samples"), captioned(grid(images[places], columns), "real images"))


def _cycled(order: Tensor, count: int) -> Tensor:
    """The first `count` of an order that begins anew once all have had their turn."""
    return order[torch.arange(count) % len(order)]


def _of_classes(game: Game, order: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
    """For each wanted class the next image of that class in `order`; `known` are the classes in that order. Raises
    SettingsError if a class has no image."""
    found = torch.empty(len(wanted), dtype=torch.int64)
    for number in wanted.unique().tolist():
        mine = order[known == number]
        if not len(mine):
            raise SettingsError(f"--real: class {class_names(game)[number]} has no real image", nearest="no --real")
        places = (wanted == number).nonzero().flatten()
        found[places] = _cycled(mine, len(places))
    return found
