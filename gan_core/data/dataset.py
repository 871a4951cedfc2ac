"""`Dataset`: the real samples of one game, with labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gan_core.data.byte_images import ByteImages
from gan_core.experiment import STACKED
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
    class_names: tuple[str, ...] = ()
    """What the user calls the classes, in their order; empty if they have no names."""
    content: str = ""
    """A digest of the files that it was read from; empty if it was read from none. It costs less than `digest`."""
    notes: tuple[str, ...] = ()
    """Lines that a user should read once: what was left out or converted."""

    @property
    def shape(self) -> Shape:
        """One sample's shape, (C, H, W) or (D,)."""
        return tuple(self.images.shape[1:])

    @property
    def is_images(self) -> bool:
        """Whether samples are images rather than points."""
        return self.images.dim() == 4

    @property
    def is_stacked(self) -> bool:
        """Whether each channel is an image of a class of its own: see `gan_core.data.sets.stacked`."""
        return self.name in STACKED

    @property
    def all_equal(self) -> bool:
        """Whether the train set is one image again and again. It stops at the first that differs."""
        return all(bool((some[:] == self.images[0]).all()) for some in self.images.split(256))

    def oddities(self, batch_size: int) -> list[str]:
        """What is unusual about the train set, so that a game on it may disappoint: a line each."""
        count, found = len(self.images), []
        if self.all_equal:
            found.append(f"all {count} images are equal: there is only one to learn")
        if count < batch_size:
            found.append(f"data.batch_size={batch_size} is more than the {count} images: a batch holds some twice")
        sizes = self.labels.bincount(minlength=self.classes).tolist() if self.classes > 1 else []
        names = self.class_names or tuple(map(str, range(self.classes)))
        for size, said in ((0, "no image to train on"), (1, "one image to train on")):
            few = [name for name, found_size in zip(names, sizes, strict=True) if found_size == size] if sizes else []
            if few:
                found.append(f"{len(few)} of {self.classes} classes have {said}: {', '.join(few[:5])}")
        return found

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
        return self._digest

    @cached_property
    def _digest(self) -> str:  # a run's record and its reference statistics ask for it, and there may be gigabytes
        content = hashlib.sha256(repr((self.name, self.shape, self.classes)).encode())
        values = self.images.stored if isinstance(self.images, ByteImages) else self.images.float()
        content.update(values.cpu().contiguous().numpy().data)
        content.update(self.labels.cpu().contiguous().numpy().data)
        return content.hexdigest()
