"""The kinds of Python objects that hold images, each as N images that are read one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from gan_core.data.given.pixels import PixelFile, PixelRange, array_of, channels_last, pixels_of
from gan_core.data.sources import ImageReader, from_array, numbered
from gan_core.files import Bars
from gan_core.settings import SettingsError, raised

KINDS = "a tensor or an array (N, C, H, W), (images, labels), or a Dataset of torch or Hugging Face"
_PART = 1024


@dataclass(frozen=True)
class GivenImages:
    """The images of one object, read once, in whatever sizes they have."""

    sizes: Counter[tuple[int, int]]
    """How many images have each height and width."""
    reader: ImageReader


def given_images(what: str, data: Any, aside: Path, bars: Bars) -> GivenImages:
    """The images of `data`, which `what` names in errors; those that are not in one array are written to the file
    `aside`. Raises SettingsError for what holds no images, with what does."""
    images, labels = data, None
    if isinstance(data, tuple):
        if len(data) != 2:
            raise SettingsError(f"{what} is a tuple of {len(data)}", nearest="(images, labels)")
        images, labels = data
    _check_kind(what, images)
    if isinstance(images, Tensor) or (hasattr(images, "__array__") and not isinstance(images, Sequence)):
        return _of_array(what, array_of(images), labels)
    return _of_items(what, images, labels, aside, bars)


def _check_kind(what: str, images: Any) -> None:
    """Raises SettingsError if the object is none of KINDS."""
    kind = type(images).__name__
    if images is None:
        raise SettingsError(f"{what} is None", nearest=KINDS)
    if isinstance(images, Mapping):
        first = next(iter(images), None)
        raise SettingsError(f"{what} is {kind} of {', '.join(map(str, images))}", nearest=f"its part [{first!r}]")
    if isinstance(images, str | bytes | Path):
        raise SettingsError(f"{what} is the text {str(images)!r}, no images", nearest=KINDS)
    if isinstance(images, Image.Image):
        raise SettingsError(f"{what} is one image", nearest="a list of images")
    if hasattr(images, "dataset") and hasattr(images, "batch_size"):
        raise SettingsError(f"{what} is {kind}, which draws batches", nearest="its .dataset")
    if isinstance(images, Tensor) or hasattr(images, "__array__"):
        return
    if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        right = "list(...) of it" if hasattr(images, "__iter__") else "what it returns" if callable(images) else KINDS
        raise SettingsError(f"{what} is {kind}, which has no length", nearest=right)


def _of_array(what: str, images: np.ndarray, labels: Any) -> GivenImages:
    images = channels_last(what, images)
    seen = PixelRange()
    for at in range(0, len(images), _PART):
        seen.see(what, images[at : at + _PART])
    numbers, names = numbered(f"{what}: 'labels'", None if labels is None else _label_array(labels), len(images))
    channels = 1 if images.shape[3] == 1 else 3
    reader = ImageReader(
        numbers, max(len(names), 1), channels, lambda index: from_array(seen.to_bytes(images[index])), names
    )
    return GivenImages(Counter({images.shape[1:3]: len(images)}), reader)


def _of_items(what: str, images: Any, labels: Any, aside: Path, bars: Bars) -> GivenImages:
    """Of a Dataset, or any object with a length and items. Each item is read once, in order, by one thread, so a
    Dataset may draw at random or read files that it opened."""
    count, columns = len(images), _columns(what, images)
    if not count:
        raise SettingsError(f"{what} holds no images", nearest="two or more")
    read, seen, sizes, found, grey = PixelFile(aside), PixelRange(), Counter[tuple[int, int]](), [], 0
    with bars("images read", count) as move:
        for index in range(count):
            this = f"{what}[{index}]"
            try:
                image, label = _parted(this, images[index], columns)
            except SettingsError:
                raise
            except Exception as error:  # a user's Dataset may raise anything
                raise SettingsError(f"{this} raises {raised(error)}") from error
            pixels = pixels_of(this, image)
            seen.see(this, pixels)
            read.append(pixels)
            sizes[pixels.shape[0], pixels.shape[1]] += 1
            grey += pixels.shape[2] == 1
            found.append(label)
            move(1)
    read.close()
    numbers, names = _labels(what, labels, found, _names(images, columns))
    reader = ImageReader(
        numbers,
        max(len(names), 1),
        1 if grey == count else 3,
        lambda index: from_array(seen.to_bytes(read[index])),
        names,
        grey if grey < count else 0,
    )
    return GivenImages(sizes, reader)


def _parted(what: str, item: Any, columns: tuple[str, str | None] | None) -> tuple[Any, Any]:
    """The image and the label of an item, None if it has no label."""
    if columns is not None:
        image, label = columns
        return item[image], None if label is None else item[label]
    if isinstance(item, tuple | list) and len(item) in (1, 2):
        return item[0], item[1] if len(item) == 2 else None
    if isinstance(item, tuple | list | Mapping):
        held = f"{type(item).__name__} of {', '.join(map(str, item)) if isinstance(item, Mapping) else len(item)}"
        raise SettingsError(f"{what} is {held}", nearest="image, or (image, label)")
    return item, None


def _columns(what: str, images: Any) -> tuple[str, str | None] | None:
    """The columns of images and of labels of a Hugging Face Dataset; None for any other object."""
    features = getattr(images, "features", None)
    if not isinstance(features, Mapping):
        return None
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    pictures = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    if not labels:
        labels = [
            name for name in ("label", "labels") if str(getattr(features.get(name), "dtype", "")).startswith("int")
        ]
    if not pictures:
        raise SettingsError(
            f"{what} has no column of images ({', '.join(kinds)})", nearest="cast_column(NAME, datasets.Image())"
        )
    for kind, names in (("images", pictures), ("labels", labels)):
        if len(names) > 1:
            raise SettingsError(
                f"{what} has {len(names)} columns of {kind}: {', '.join(names)}",
                nearest=f"remove_columns('{names[1]}')",
            )
    return pictures[0], labels[0] if labels else None


def _names(images: Any, columns: tuple[str, str | None] | None) -> tuple[str, ...]:
    """What a Dataset calls its classes: the names of a ClassLabel, or torchvision's `classes`; empty if nothing."""
    if columns is not None:
        return tuple(getattr(images.features[columns[1]], "names", ())) if columns[1] is not None else ()
    while isinstance(images, Subset):
        images = images.dataset
    names = getattr(images, "classes", None)
    return tuple(map(str, names)) if isinstance(names, tuple | list) else ()


def _labels(what: str, labels: Any, found: list[Any], names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels (N,) of items, and the names of the classes. A Dataset's own names and order of classes are kept."""
    without = [index for index, label in enumerate(found) if label is None]
    if labels is not None and len(without) < len(found):
        raise SettingsError(f"{what} has labels of its own", nearest="leave the others out")
    if labels is None and len(without) == len(found):
        return numbered(what, None, len(found))
    if labels is None and without:
        raise SettingsError(f"{what}[{without[0]}] has no label, others have", nearest="a label for each")
    values = _label_array(labels if labels is not None else [_plain(label) for label in found])
    numbers, values_as_names = numbered(f"{what}: 'labels'", values, len(found))
    if len(names) < 2 or values.dtype.kind == "U":
        return numbers, values_as_names
    if values.min() < 0 or values.max() >= len(names):
        wrong = values.min() if values.min() < 0 else values.max()
        raise SettingsError(
            f"{what} has the label {wrong} and {len(names)} classes", nearest=f"labels from 0 to {len(names) - 1}"
        )
    return values.astype(np.int64), names


def _label_array(labels: Any) -> np.ndarray:
    """Labels (N,); a column (N, 1) of them is flattened."""
    try:
        found = array_of(labels)
        return found[:, 0] if found.shape[1:] == (1,) else found
    except ValueError:  # lists of different lengths
        return np.empty(len(labels), object)


def _plain(label: Any) -> Any:
    """A label of one element, such as a tensor (), as Python's own."""
    if isinstance(label, str | int):
        return label
    found = array_of(label)
    return found.item() if found.size == 1 else label
