"""Pictures of samples: a grid of images, or a scatter plot of points over the real points."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gan_core.data.dataset import Dataset
from gan_core.loop import Game
from gan_core.metrics.scores import sample_range

_MARGIN = 2
_SMALLEST_TILE = 48
_CANVAS = 512


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


PICTURED_SAMPLES = {True: 64, False: 1024}  # images, points
MOST_COLUMNS = 16


def game_picture(game: Game, dataset: Dataset, count: int | None = None) -> Image.Image:
    """Samples from the same noise at every step. With a conditional family each column shows one class."""
    columns = game.classes if game.conditional and game.classes <= MOST_COLUMNS else None
    if count is None:
        count = 8 * columns if columns else PICTURED_SAMPLES[dataset.is_images]
    samples = sample_range(game, 0, count, purpose="picture")
    return grid(samples, columns) if dataset.is_images else scatter(samples, dataset.images)


def samples_picture(samples: Tensor, real: Tensor) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] as a grid, or points (N, 2) in blue over the `real` points in grey."""
    return grid(samples) if samples.dim() == 4 else scatter(samples, real)


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """A grid of images (N, C, H, W) in [-1, 1] with 1 or 3 channels. Small images are enlarged.

    `columns`: how many images make a row. Without it the grid is as near to a square as possible.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = max(1, _SMALLEST_TILE // width)
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    pixels = pixels.repeat(factor, axis=2).repeat(factor, axis=3)
    tall, wide = height * factor + _MARGIN, width * factor + _MARGIN
    sheet = np.full((rows * tall + _MARGIN, columns * wide + _MARGIN, channels), 128, dtype=np.uint8)
    for index, tile in enumerate(pixels):
        top, left = _MARGIN + index // columns * tall, _MARGIN + index % columns * wide
        sheet[top : top + tall - _MARGIN, left : left + wide - _MARGIN] = tile.transpose(1, 2, 0)
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def corner(sheet: Image.Image, side: int, tiles: int) -> Image.Image:
    """The first `tiles` by `tiles` samples of a picture that `grid` made. `side`: pixels of a sample, before it was
    enlarged."""
    reach = _MARGIN + tiles * (side * max(1, _SMALLEST_TILE // side) + _MARGIN)
    return sheet.crop((0, 0, min(reach, sheet.width), min(reach, sheet.height)))


def pairs_picture(above: Tensor, below: Tensor) -> Image.Image:
    """Two rows of images (N, C, H, W), each of `above` over its counterpart in `below`."""
    return grid(torch.cat([above, below]), columns=len(above))


def scatter(points: Tensor, real: Tensor) -> Image.Image:
    """Points (N, 2) in blue over real points (M, 2) in grey. The frame is a quarter larger than the real points."""
    sheet = Image.new("RGB", (_CANVAS, _CANVAS), "white")
    draw = ImageDraw.Draw(sheet)
    reach = 1.25 * float(real.abs().max())
    for cloud, colour, radius in ((real[:: max(1, len(real) // 4000)], (190, 190, 190), 2), (points, (30, 80, 220), 2)):
        for x, y in ((cloud.float().cpu() / reach + 1) * _CANVAS / 2).tolist():
            draw.ellipse((x - radius, _CANVAS - y - radius, x + radius, _CANVAS - y + radius), fill=colour)
    return sheet
