"""The decode cache: images are decoded once into a file of bytes, which later processes map into memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch

from gan_core.data import file_set, image_files, sources
from gan_core.data.image_files import in_order
from gan_core.data.sets import built_in, stacked, torchvision_sets
from gan_core.data.sources import ImageReader, ImageSource
from gan_core.files import Bars, no_bars
from gan_core.settings import SettingsError
from gan_core.settings.image_size import written_size
from gan_core.streams import seeded

IMAGES, LABELS, ABOUT = "images.npy", "labels.npy", "about.json"
_AHEAD = 256


@dataclass(frozen=True)
class DecodedImages:
    """Images of one size, in random order, with labels."""

    images: np.ndarray
    """uint8 (M, C, H, W), memory-mapped; a pack may hold float32."""
    labels: np.ndarray
    """int64 (M,)."""
    classes: int
    bad: list[str]
    """A line for each image that could not be used: its name and the reason."""
    class_names: tuple[str, ...] = ()
    grey: int = 0
    """How many images were grey while others were in colour."""
    content: str = ""
    """A digest of the files that the images were read from."""


def decoded_images(
    source: ImageSource, name: str, size: tuple[int, int], cache: Path, bars: Bars = no_bars
) -> DecodedImages:
    """The source's images of that height and width, from `cache`. If they are missing, one process decodes them; others
    wait.

    An entry depends on the files' contents, size and code, so a change makes a new one. A damaged entry is replaced.
    Raises SettingsError if the cache cannot be written, or if files change while they are decoded.
    """
    from filelock import FileLock

    stamp = source.files.stamp()
    content = source.files.content(stamp, cache / "contents", bars)
    written = str(written_size(*size))
    key = hashlib.sha256("/".join([name, written, content, _code()]).encode()).hexdigest()[:32]
    cache = cache / "decoded"
    folder = cache / f"{name}-{written}-{key}"
    found = open_decoded(folder)
    if found is not None:
        return replace(found, content=content)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            found = open_decoded(folder)
            if found is None:
                decode_into(folder, source.open(), name, size, bars)
                if source.files.stamp() != stamp:  # what was decoded may be neither the old nor the new content
                    shutil.rmtree(folder)
                    raise SettingsError(
                        f"data.path={source.files.root}: files changed while they were read",
                        nearest="the same command, once nothing writes there",
                    )
    except OSError as error:
        raise SettingsError(f"the cache {cache} cannot be written: {error}", nearest="GANFLEET_CACHE=FOLDER") from None
    found = found or open_decoded(folder)
    assert found is not None, folder
    return replace(found, content=content)


def _code() -> str:
    """A digest of all code that decides how an image is decoded, Pillow's version included."""
    import PIL

    modules = (file_set, image_files, sources, built_in, stacked, torchvision_sets)
    files = [Path(str(module.__file__)) for module in modules] + [Path(__file__)]
    return PIL.__version__ + hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def open_decoded(folder: Path) -> DecodedImages | None:
    """What `decode_into` wrote there; None if it is not whole. The images are mapped into memory."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        pixels = np.load(folder / IMAGES, mmap_mode="c")  # copy-on-write: torch wants writable memory
        labels = np.load(folder / LABELS)
        names = tuple(about["class_names"])
        return DecodedImages(pixels, labels, about["classes"], about["bad"], names, about["grey"])
    except (OSError, ValueError, EOFError, KeyError):
        return None


def decode_into(folder: Path, opened: ImageReader, name: str, size: tuple[int, int], bars: Bars) -> None:
    """Decodes into a temporary folder and then renames it. Nobody else may write there. Raises OSError."""
    aside = folder.with_name(f".{folder.name}.part")
    for leftover in (aside, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    try:
        with (aside / IMAGES).open("wb") as file, bars("images decoded", len(opened.labels)) as move:
            labels, bad = _decode(opened, name, size, file, move)
        np.save(aside / LABELS, np.array(labels, dtype=np.int64))
        about = {
            "classes": opened.classes,
            "class_names": opened.class_names,
            "bad": sorted(bad),
            "grey": opened.grey,
        }
        (aside / ABOUT).write_text(json.dumps(about))
        os.replace(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _decode(
    opened: ImageReader, name: str, size: tuple[int, int], file: IO[bytes], move: Callable[[float], None]
) -> tuple[list[int], list[str]]:
    """Writes the images as one .npy file, in an order drawn from the data's name. Returns labels and errors."""
    labels: list[int] = []
    bad: list[str] = []

    def one(index: int) -> np.ndarray | str:
        try:
            return _prepared(opened, index, size)
        except ValueError as error:
            return str(error)

    def header() -> None:
        """Its length does not depend on the number of images, so it can be written again once they are counted."""
        shape = (len(labels), opened.channels, *size)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})

    header()
    order = torch.randperm(len(opened.labels), generator=seeded("cpu", name, "order")).tolist()
    for index, pixels in zip(order, in_order(one, order, _AHEAD), strict=True):
        move(1)
        if isinstance(pixels, str):
            bad.append(pixels)
            continue
        file.write(pixels.tobytes())
        labels.append(int(opened.labels[index]))
    file.seek(0)
    header()
    file.flush()
    os.fsync(file.fileno())
    return labels, bad


def _prepared(opened: ImageReader, index: int, size: tuple[int, int]) -> np.ndarray:  # (C, H, W)
    """The largest part in the middle of the image that has the wanted shape, resized with PIL's antialiased bicubic
    filter."""
    from PIL import Image

    image = opened.read(index).convert("L" if opened.channels == 1 else "RGB")
    height, width = size
    scale = min(image.width / width, image.height / height)
    wide, high = (
        min(max(round(side * scale), 1), most) for side, most in zip((width, height), image.size, strict=True)
    )
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    image = image.crop((left, top, left + wide, top + high))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
