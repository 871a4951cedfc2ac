"""One image of any kind as pixels (H, W, C), and many of them in a file: they are read from the user's object once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_core.data.image_files import eight_bits
from gan_core.data.sources import channels_come_first
from gan_core.settings import SettingsError

LAYOUTS = "(N, H, W), (N, C, H, W) or (N, H, W, C), C 1 or 3"
SLACK = 1e-3
"""How far a float may lie outside of its range: by rounding, or after an image was resized."""


def array_of(values: Any) -> np.ndarray:
    """A tensor on any device, or an array of any library, as NumPy's. Floats of 16 bits become float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
        return np.asarray(values.numpy())
    found = np.asarray(values)
    return found.astype(np.float32) if found.dtype == np.float16 else found


def channels_last(what: str, images: np.ndarray) -> np.ndarray:
    """Images (N, H, W), (N, C, H, W) or (N, H, W, C) as (N, H, W, C) without a copy; C is 1 or 3, of bytes also 4.
    Raises SettingsError for any other shape or type."""
    shape, kind = images.shape, images.dtype
    if not images.size:
        raise SettingsError(f"{what} holds no images: {kind} {shape}", nearest="two or more")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and channels_come_first(images.shape):
        images = images.transpose(0, 2, 3, 1)
    of_bytes = kind == np.uint8
    if images.ndim != 4 or images.shape[3] not in ((1, 3, 4) if of_bytes else (1, 3)):
        raise SettingsError(f"{what} is {kind} {shape}, not images", nearest=LAYOUTS)
    if not of_bytes and not np.issubdtype(kind, np.floating):
        right = "uint8 from 0 to 255" if np.issubdtype(kind, np.integer) else "uint8, or floats from 0 to 1"
        raise SettingsError(f"{what} holds {kind}, which has no known range", nearest=right)
    return images


def pixels_of(what: str, image: Any) -> np.ndarray:
    """One image (H, W), (C, H, W) or (H, W, C), or PIL's, as (H, W, C) of bytes or floats. Raises SettingsError."""
    if isinstance(image, Image.Image):
        try:
            return np.atleast_3d(np.asarray(eight_bits(image, over_white=True)))
        except ValueError as error:
            raise SettingsError(f"{what}: {error}") from None
    pixels = array_of(image)
    if pixels.dtype == object or pixels.ndim not in (2, 3):
        shown = type(image).__name__ if pixels.dtype == object or not pixels.ndim else f"of shape {pixels.shape}"
        raise SettingsError(f"{what} is {shown}, no image", nearest="a tensor (C, H, W), or an image of PIL")
    return channels_last(what, pixels[None])[0]


class PixelRange:
    """The least and the greatest float of images, which decide whether they are from 0 to 1 or from -1 to 1."""

    def __init__(self) -> None:
        self._least, self._greatest = np.inf, -np.inf

    def see(self, what: str, pixels: np.ndarray) -> None:
        """Counts pixels of any shape; bytes have a range of their own. Raises SettingsError for a float outside of -1
        to 1."""
        if pixels.dtype == np.uint8:
            return
        least, greatest = float(pixels.min()), float(pixels.max())
        if not (least >= -1 - SLACK and greatest <= 1 + SLACK):  # a NaN is neither
            bytes_meant = least >= 0 and 1 < greatest <= 255
            raise SettingsError(
                f"{what} has floats from {least:.4g} to {greatest:.4g}",
                nearest="uint8, or divide by 255" if bytes_meant else "floats from 0 to 1, or from -1 to 1",
            )
        self._least, self._greatest = min(self._least, least), max(self._greatest, greatest)

    def to_bytes(self, pixels: np.ndarray) -> np.ndarray:
        """Floats rounded to the 256 levels that image files have."""
        if pixels.dtype == np.uint8:
            return pixels
        levels = (pixels + 1) * 127.5 if self._least < -SLACK else pixels * 255
        return np.rint(levels).clip(0, 255).astype(np.uint8)


class PixelFile:
    """Images (H, W, C) of any sizes, one after the other in a file, which may be larger than memory."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("wb+")
        self._places: list[tuple[int, tuple[int, ...], bool]] = []
        self._mapped = np.empty(0, np.uint8)

    def append(self, pixels: np.ndarray) -> None:
        """Writes one image; floats as float32."""
        of_bytes = pixels.dtype == np.uint8
        self._places.append((self._file.tell(), pixels.shape, of_bytes))
        self._file.write(np.ascontiguousarray(pixels if of_bytes else pixels.astype(np.float32)).data)

    def close(self) -> None:
        """Ends writing."""
        self._file.flush()
        self._mapped = np.memmap(self._file, np.uint8, "r")
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        at, shape, of_bytes = self._places[index]
        count = int(np.prod(shape)) * (1 if of_bytes else 4)
        return self._mapped[at : at + count].view(np.uint8 if of_bytes else np.float32).reshape(shape)
