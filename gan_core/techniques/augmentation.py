"""Augmentation of all images that a critic sees. The gradient flows through it to the generator, so the generator does
not learn to make augmented images. Zhao et al. 2020, arXiv:2006.10738."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core import streams
from gan_core.recipe import Turn


class Augmentation(Protocol):
    """What `augmentation` returns."""

    def __call__(self, images: Tensor, turn: Turn, share: Tensor | None = None) -> Tensor:
        """The images (N, C, H, W), transformed. With `share`, a scalar, each image has each of the transforms with
        that probability (Karras et al. 2020, arXiv:2006.06676, section 3); otherwise it has all of them."""


def augmentation(*names: str) -> Augmentation:
    """The transforms of these names, one after another: `augment(images, batch.turn)` with images (N, C, H, W).

    What is drawn depends on (seed, turn) and the image's place in the global batch. So in one turn the real and the
    generated image of a place are transformed alike. Raises KeyError for an unknown name; TRANSFORMS has all.
    """
    transforms = [(name, TRANSFORMS[name]) for name in names]

    def augment(images: Tensor, turn: Turn, share: Tensor | None = None) -> Tensor:
        for name, transform in transforms:
            like = images.new_empty((len(images), 3), dtype=torch.promote_types(images.dtype, torch.float32))
            transformed = transform(images, streams.uniform(turn, f"augmentation {name}", like))
            if share is not None:
                chosen = streams.uniform(turn, f"share of {name}", like[:, :1]) < share  # (N, 1)
                transformed = torch.where(chosen[:, :, None, None], transformed, images)
            images = transformed
        return images

    return augment


def _flip(images: Tensor, drawn: Tensor) -> Tensor:
    """Half of the images, mirrored left to right."""
    return torch.where(drawn[:, 0, None, None, None] < 0.5, images.flip(3), images)


def _colour(images: Tensor, drawn: Tensor) -> Tensor:
    """Brightness plus [-0.5, 0.5), saturation times [0, 2), contrast times [0.5, 1.5)."""
    brightness, saturation, contrast = (part[:, None, None, None] for part in drawn.unbind(1))
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _translation(images: Tensor, drawn: Tensor) -> Tensor:
    """Shifted by up to an eighth of the sides, in whole pixels; what comes in is 0."""
    (height, width), count = images.shape[2:], len(images)
    most_down, most_right = (int(side / 8 + 0.5) for side in (height, width))
    down, right = (
        (part * (2 * most + 1)).floor().long()
        for part, most in zip(drawn[:, :2].unbind(1), (most_down, most_right), strict=True)
    )
    padded = F.pad(images, (most_right, most_right, most_down, most_down)).movedim(1, 3)  # (N, H', W', C)
    rows = (torch.arange(height, device=images.device) + down[:, None])[:, :, None]  # (N, H, 1)
    columns = (torch.arange(width, device=images.device) + right[:, None])[:, None, :]  # (N, 1, W)
    return padded[torch.arange(count, device=images.device)[:, None, None], rows, columns].movedim(3, 1)


def _cutout(images: Tensor, drawn: Tensor) -> Tensor:
    """0 in a rectangle of half the sides, whose middle may lie anywhere."""

    def inside(middle: Tensor, side: int) -> Tensor:
        cut = side // 2
        first = (middle * (side + 1 - cut % 2)).floor().long() - cut // 2  # (N,)
        place = torch.arange(side, device=images.device) - first[:, None]  # (N, side)
        return (place >= 0) & (place < cut)

    rows, columns = inside(drawn[:, 0], images.shape[2]), inside(drawn[:, 1], images.shape[3])
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


TRANSFORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "flip": _flip,
    "colour": _colour,
    "translation": _translation,
    "cutout": _cutout,
}
"""The transforms by name. Each takes images (N, C, H, W) and numbers (N, 3), uniform on [0, 1)."""
