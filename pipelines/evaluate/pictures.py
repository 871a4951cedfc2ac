"""Pictures of samples: a grid of images, or a scatter plot of points over the real points."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_core.data.byte_images import to_bytes
from gan_core.data.dataset import Dataset
from gan_core.loop import Game
from gan_core.metrics.scores import sample_range

_MARGIN = 2
_SMALLEST_TILE = 48
_CANVAS = 512
_TEXT = 14
_STRIP = 20
_GAP = 16


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


PICTURED_SAMPLES = {True: 64, False: 1024}  # images, points
MOST_COLUMNS = 16


def game_picture(game: Game, dataset: Dataset) -> Image.Image:
    """Samples from the same noise at every step. With a conditional family each column shows one class."""
    columns = class_columns(game)
    samples = sample_range(game, 0, pictured_samples(columns, dataset.is_images), purpose="picture")
    return samples_picture(samples, dataset.images, columns)


def class_columns(game: Game) -> int | None:
    """The number of columns of a grid that shows a class in each; None if a column has no class."""
    return game.classes if game.conditional and game.classes <= MOST_COLUMNS else None


def pictured_samples(columns: int | None, images: bool) -> int:
    """How many samples a picture shows, unless the user says."""
    return 8 * columns if columns else PICTURED_SAMPLES[images]


def samples_picture(samples: Tensor, real: Tensor, columns: int | None = None) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] as a grid, or points (N, 2) in blue over the `real` points in grey."""
    return grid(samples, columns) if samples.dim() == 4 else scatter(samples, real)


def grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """A grid of images (N, C, H, W) in [-1, 1] with 1 or 3 channels. Small images are enlarged.

    `columns`: how many images make a row. Without it the grid is as near to a square as possible.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = _enlarged(width)
    pixels = as_bytes(images).repeat(factor, axis=1).repeat(factor, axis=2)
    tall, wide = height * factor + _MARGIN, width * factor + _MARGIN
    sheet = np.full((rows * tall + _MARGIN, columns * wide + _MARGIN, channels), 128, dtype=np.uint8)
    for index, tile in enumerate(pixels):
        top, left = _MARGIN + index // columns * tall, _MARGIN + index % columns * wide
        sheet[top : top + tall - _MARGIN, left : left + wide - _MARGIN] = tile
    return as_image(sheet)


def as_bytes(images: Tensor) -> np.ndarray:
    """Images (N, C, H, W) in [-1, 1] as uint8 (N, H, W, C)."""
    return to_bytes(images).permute(0, 2, 3, 1).cpu().numpy()


def as_image(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, C) as a picture: grey with 1 channel, in colour with 3."""
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _enlarged(side: int) -> int:
    """By which whole number a sample is enlarged, so that it is large enough to be seen."""
    return max(1, -(-_SMALLEST_TILE // side))


def captioned(sheet: Image.Image, text: str) -> Image.Image:
    """The picture below a strip with a line of text."""
    font = ImageFont.load_default(_TEXT)
    found = Image.new(
        sheet.mode, (max(sheet.width, math.ceil(font.getlength(text)) + 6), sheet.height + _STRIP), "white"
    )
    ImageDraw.Draw(found).text((3, _STRIP // 2), text, "black", font, anchor="lm")
    found.paste(sheet, (0, _STRIP))
    return found


def next_to(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one height and mode, with a gap between them."""
    found = Image.new(left.mode, (left.width + _GAP + right.width, left.height), "white")
    found.paste(left, (0, 0))
    found.paste(right, (left.width + _GAP, 0))
    return found


def corner(sheet: Image.Image, size: tuple[int, int], tiles: int) -> Image.Image:
    """The first `tiles` by `tiles` samples of a picture that `grid` made. `size`: height and width of a sample
    before it was enlarged."""
    down, right = (_MARGIN + tiles * (side * _enlarged(size[1]) + _MARGIN) for side in size)
    return sheet.crop((0, 0, min(right, sheet.width), min(down, sheet.height)))


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
