"""What can be had on this machine: each data set by its name, where it is, how large it is, or how to get it.

Imports no torch, and reads no image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gan_core.data.sets.find import find_source
from gan_core.experiment import DATA_NAMES, FETCHABLE, NEEDS_PATH, POINTS, Data
from gan_core.files import cache_folder
from gan_core.settings import SettingsError, installed

_WITHOUT_FILES = {"digits": "1,797 images of 8x8", "ring8": "8,000 points", "grid25": "25,000 points"}
_SIZES = {
    "photos": "4,096 patches of two photographs",
    "stacked_digits": "50,000 images of three digits",
    "mnist": "60,000 images of 28x28",
    "fashion_mnist": "60,000 images of 28x28",
    "stacked_mnist": "50,000 images of three of mnist",
    "stacked_fashion_mnist": "50,000 images of three of fashion_mnist",
    "cifar10": "50,000 images of 32x32 in colour",
    "celeba": "202,599 faces of 178x218 in colour",
    "lsun": "0.1 to 3 million images a category in colour",
}
_DOWNLOADS = {
    "mnist": 12,
    "fashion_mnist": 31,
    "stacked_mnist": 12,
    "stacked_fashion_mnist": 31,
    "cifar10": 170,
    "celeba": 1443,
}
"""Megabytes that `data.download=true` fetches."""


@dataclass(frozen=True)
class KnownSet:
    """One line of the list."""

    name: str
    here: bool
    size: str
    """How many images, and of what."""
    where: str
    """The folder and the megabytes of its files; if it is not here, how to get it."""

    def __str__(self) -> str:
        return f"{self.name:<21}  {'here' if self.here else '-':<4}  {self.size:<44}  {self.where}".rstrip()


def known_sets() -> Iterator[KnownSet]:
    """Every data set by name: those that are part of ganfleet, those of torchvision's and Debian's files, those of
    installed packages, and what needs a path."""
    for name in DATA_NAMES:
        if name in NEEDS_PATH:
            yield KnownSet(name, False, "yours", f"data.path={NEEDS_PATH[name]}")
        elif name == "digits" or name in POINTS:
            yield KnownSet(name, True, _WITHOUT_FILES[name], "part of ganfleet")
        else:
            yield _found(name)
    for name, place in sorted(installed("datasets").items()):
        yield KnownSet(name, True, "of an installed package", place)


def _found(name: str) -> KnownSet:
    try:
        files = find_source(Data(name=name), cache_folder()).files
    except SettingsError as error:
        right = str(error).rpartition("; nearest: ")[2]
        fetched = f" ({_DOWNLOADS[name]} MB)" if name in FETCHABLE else ""
        return KnownSet(
            name, False, _SIZES[name], right.replace("data.download=true", f"data.download=true{fetched}", 1)
        )
    return KnownSet(name, True, _SIZES[name], f"{files.root}, {files.stamp().size / 1e6:.1f} MB")
