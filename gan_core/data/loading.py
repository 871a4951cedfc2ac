"""Loads the dataset that the settings name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_core.data.byte_images import ByteImages
from gan_core.data.dataset import Dataset
from gan_core.data.decode_cache import DecodedImages, decoded_images
from gan_core.data.given.decoded import ARRAYS, decode_given
from gan_core.data.given.own import own_data
from gan_core.data.packed import packed
from gan_core.data.sets.built_in import BUILT_IN
from gan_core.data.sets.find import find_source
from gan_core.experiment import Data
from gan_core.files import Bars, cache_folder, no_bars
from gan_core.settings import SettingsError
from gan_core.streams import seeded


def load(settings: Data, cache: Path | None = None, bars: Bars = no_bars) -> Dataset:
    """The dataset of those settings, on the CPU in float32.

    `settings.held_out` withholds that share of the samples, the same ones for every seed of a run. Of images it is a
    random choice. For a mixture fresh samples are drawn, and the train set stays complete.

    Image files are decoded once into `cache` (`$GANFLEET_CACHE` or ~/.cache/ganfleet) and then memory-mapped: the first
    of several processes decodes, the others wait, and all share the same pages. Images are in random order, the same at
    every load. A pack must be on this machine. A data set of the user's own is made anew by each call, in the size of
    its images unless `settings` give one. `bars` show what is read and decoded.

    Raises SettingsError if files are missing, if more than `settings.max_bad` of them cannot be used, or if less than
    two images are left to train on.
    """
    if settings.name in BUILT_IN:
        found = BUILT_IN[settings.name](settings)
        if settings.held_out == 0 or found.held_out is not None:
            return found
        return _withheld(found, _count(settings, len(found.images)))
    if settings.is_pack:
        return _unpacked(settings)
    cache = cache or cache_folder()
    if settings.own:
        size = settings.image_size if "image_size" in settings.model_fields_set else None
        decoded = decode_given(settings.source, own_data(settings.name), size, cache, bars)
        return _dataset(settings, ARRAYS, decoded)
    source = find_source(settings, cache)
    decoded = decoded_images(source, settings.name, settings.size, cache, bars)
    _check_bad(settings, decoded)
    found = _dataset(settings, settings.name, decoded)
    return replace(found, notes=(*source.notes, *found.notes))


def load_given(what: str, data: Any, image_size: int | str | None = None, bars: Bars = no_bars) -> Dataset:
    """The dataset of a tensor, an array, (images, labels), a sequence of images, or a Dataset of torch or Hugging Face.

    `what` names the object in errors. Layouts are (N, H, W), (N, C, H, W) and (N, H, W, C), C 1 or 3; values bytes, or
    floats from 0 to 1, or from -1 to 1 if any is negative, which are rounded to 256 levels. `image_size` None: the size
    that all images have. The same images in an npz file are the same dataset. Raises SettingsError.
    """
    return _dataset(Data(), ARRAYS, decode_given(what, data, image_size, cache_folder(), bars))


def _unpacked(settings: Data) -> Dataset:
    """A pack. It has the name and the withheld samples of the dataset that was packed."""
    name, rows = packed(settings)
    if rows.images.dtype == np.uint8:
        return _dataset(settings, name, rows)
    images, labels = torch.from_numpy(rows.images), torch.from_numpy(rows.labels)
    whole = Dataset(name, images, labels, rows.classes, class_names=rows.class_names, content=rows.content)
    return _withheld(whole, _count(settings, len(whole.images))) if settings.held_out else whole


def _count(settings: Data, whole: int) -> int:
    """How many of `whole` samples to withhold. Raises SettingsError if less than two are left."""
    count = max(round(settings.held_out * whole), 1) if settings.held_out else 0
    if whole - count < 2:
        raise SettingsError(
            f"data.held_out={settings.held_out} withholds {count} of {whole} images, and training needs two",
            nearest=f"data.held_out={(whole - 2) / whole:.4g}" if whole > 2 else "data.held_out=0",
        )
    return count


def _withheld(whole: Dataset, count: int) -> Dataset:
    """The set with `count` random samples moved to `held_out`. The order of samples is kept in both."""
    held = torch.zeros(len(whole.images), dtype=torch.bool)
    held[torch.randperm(len(held), generator=seeded("cpu", whole.name, "held out"))[:count]] = True
    return replace(
        whole,
        images=whole.images[~held],
        labels=whole.labels[~held],
        held_out=whole.images[held],
        held_out_labels=whole.labels[held],
    )


def _dataset(settings: Data, name: str, decoded: DecodedImages) -> Dataset:
    """A dataset of decoded images. They are in random order, so withheld images are a slice of the same mapped file."""
    images, labels = torch.from_numpy(decoded.images), torch.from_numpy(decoded.labels)
    count = _count(settings, len(images))
    train = Dataset(
        name,
        ByteImages(images[count:]),
        labels[count:],
        decoded.classes,
        class_names=decoded.class_names,
        content=decoded.content,
        notes=tuple(_notes(decoded)),
    )
    if count == 0:
        return train
    return replace(train, held_out=ByteImages(images[:count]), held_out_labels=labels[:count])


def _notes(decoded: DecodedImages) -> Iterator[str]:
    whole = len(decoded.images)
    if decoded.grey:
        yield f"{decoded.grey} of {whole + len(decoded.bad)} images are grey: they have three equal channels here"
    if decoded.bad:
        yield f"left out, for they cannot be used: {_named(decoded.bad)}"


def _named(bad: Sequence[str]) -> str:
    return "; ".join(bad[:3]) + (f"; and {len(bad) - 3} more" if len(bad) > 3 else "")


def _check_bad(settings: Data, decoded: DecodedImages) -> None:
    bad, good = decoded.bad, len(decoded.images)
    if len(bad) <= settings.max_bad and good >= 2:
        return
    named = _named(bad)
    if good < 2:
        place = f"data.name={settings.name}" if settings.path is None else f"data.path={settings.path}"
        why = f": {named}" if bad else ""
        raise SettingsError(f"{place} holds {good} images that can be used{why}", nearest="two or more")
    raise SettingsError(
        f"data.max_bad={settings.max_bad}, but {len(bad)} of {len(bad) + good} images cannot be used: {named}",
        nearest=f"data.max_bad={len(bad)}",
    )
