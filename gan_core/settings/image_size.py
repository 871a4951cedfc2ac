"""The size of images as a setting: a side in pixels, or height x width."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from gan_core.settings._tree import SettingsError

IMAGE_SIZES = (8, 16, 28, 32, 64, 128, 256)
"""Sides of square images that all networks make; `data.image_size` may be another."""
SMALLEST_SIDE, LARGEST_SIDE = 8, 512


def written_size(height: int, width: int) -> int | str:
    """Height and width as `data.image_size` has them: 48 of a square, else `64x128`."""
    return height if height == width else f"{height}x{width}"


def size_of(written: int | str) -> tuple[int, int]:
    """The height and width that `written_size` wrote."""
    height, _, width = str(written).partition("x")
    return int(height), int(width or height)


def _image_size(value: Any) -> Any:
    """The setting in its one form. Raises SettingsError with the nearest size."""
    found = re.fullmatch(r"\s*(\d{1,6})(?:\s*x\s*(\d{1,6}))?\s*", str(value))
    if found is None or isinstance(value, bool):
        raise SettingsError(
            f"data.image_size={value} is neither a side in pixels nor height x width", nearest="data.image_size=64x128"
        )
    sides = [int(side) for side in (found[1], found[2] or found[1])]
    right = [min(max(side, SMALLEST_SIDE), LARGEST_SIDE) for side in sides]
    if right != sides:
        raise SettingsError(
            f"data.image_size={value} has a side outside of {SMALLEST_SIDE} to {LARGEST_SIDE}",
            nearest=f"data.image_size={written_size(*right)}",
        )
    return written_size(*sides)


ImageSize = Annotated[int | str, BeforeValidator(_image_size)]
