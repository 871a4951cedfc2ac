"""Writes small image files, and lists loaded images to compare them with what was written."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gan_core.data.dataset import Dataset

DRAW = np.random.default_rng(5)


def pictures(count: int, *shape: int) -> np.ndarray:
    """Random images (count, *shape)."""
    return DRAW.integers(0, 256, (count, *shape), dtype=np.uint8)


def written(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    """One image file in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def class_folders(root: Path, **classes: np.ndarray) -> Path:
    """A folder of PNG files for each class."""
    for name, images in classes.items():
        for index, pixels in enumerate(images):
            written(root / name / f"{index}.png", pixels)
    return root


def found(data: Dataset) -> list[tuple[bytes, int]]:
    """Each image's bytes (C, H, W) and label, sorted, withheld images included."""
    parts = [(data.images, data.labels)]
    if data.held_out is not None:
        parts.append((data.held_out, data.held_out_labels))
    rows = [
        (((image + 1) * 127.5).round().to(torch.uint8).numpy().tobytes(), int(label))
        for images, labels in parts
        for image, label in zip(images, labels, strict=True)
    ]
    return sorted(rows)


def wanted(images: np.ndarray, labels: list[int] | np.ndarray) -> list[tuple[bytes, int]]:
    """The same list for images (N, H, W, C) or (N, H, W)."""
    images = images[..., None] if images.ndim == 3 else images
    return sorted(
        (pixels.transpose(2, 0, 1).tobytes(), int(label)) for pixels, label in zip(images, labels, strict=True)
    )
