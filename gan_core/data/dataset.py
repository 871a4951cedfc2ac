"""`Dataset`: the real samples of one game, with labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_core.data.byte_images import ByteImages
from gan_core.recipe import Shape


@dataclass(frozen=True)
class Modes:
    """The Gaussians of a mixture: their centres (K, D) and common standard deviation."""

    centres: Tensor
    sigma: float


@dataclass(frozen=True)
class Dataset:
    """A train set: `images` (M, *shape), images in [-1, 1], and `labels` (M,), int64.

    Images from files are `ByteImages`: a float tensor that is stored and moved as bytes.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: int
    modes: Modes | None = None
    """The modes, if the data is a mixture."""
    held_out: Tensor | None = None
    """Real samples (H, *shape) that are never trained on; None if there are none."""
    held_out_labels: Tensor | None = None
    """Their labels (H,)."""

    @property
    def shape(self) -> Shape:
        """One sample's shape, (C, H, W) or (D,)."""
        return tuple(self.images.shape[1:])

    @property
    def is_images(self) -> bool:
        """Whether samples are images rather than points."""
        return self.images.dim() == 4

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Dataset:
        """The same set on a device, images in `dtype`."""
        return replace(
            self,
            images=self.images.to(device, dtype),
            labels=self.labels.to(device),
            held_out=None if self.held_out is None else self.held_out.to(device, dtype),
            held_out_labels=None if self.held_out_labels is None else self.held_out_labels.to(device),
        )

    def digest(self) -> str:
        """sha256 of the train set in the form that the game sees: preprocessed pixels, and labels."""
        content = hashlib.sha256(repr((self.name, self.shape, self.classes)).encode())
        values = self.images.stored if isinstance(self.images, ByteImages) else self.images.float()
        content.update(values.cpu().contiguous().numpy().data)
        content.update(self.labels.cpu().contiguous().numpy().data)
        return content.hexdigest()
