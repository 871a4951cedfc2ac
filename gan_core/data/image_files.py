"""Image files: those that a folder holds, their digest, their sizes, their pixels in batches. Imports neither torch nor
NumPy before pixels are read."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar

from gan_core.settings import similar_file

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif")
"""Upper case counts, too."""
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F")
THREADS = 4
_CHUNK = 2**20


def image_files(folder: Path) -> list[Path]:
    """All images below `folder`, sorted by relative POSIX name, without hidden files and folders.

    Links to folders are followed. A link to nothing with an image's name is listed; reading it fails. Raises ValueError
    if there is no such folder, no image in it, or if a part of it cannot be listed.
    """
    if not os.path.isdir(folder):
        raise ValueError(_why_no_folder(folder))
    names = sorted(name for name in _walk(folder) if name.lower().endswith(IMAGE_SUFFIXES))
    if not names:
        raise ValueError(f"no image in {folder}; nearest: files that end in {' '.join(IMAGE_SUFFIXES)}")
    return [folder / name for name in names]


def _walk(folder: Path) -> Iterator[str]:
    """Relative POSIX names of all files that are not hidden. Raises ValueError for what cannot be listed."""
    for place, folders, names in os.walk(folder, onerror=_unlisted, followlinks=True):
        below = "" if Path(place) == folder else Path(place).relative_to(folder).as_posix() + "/"
        here = os.path.join(os.path.realpath(place), "")
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not here.startswith(os.path.join(os.path.realpath(Path(place, name)), ""))
        ]  # a link to a folder around it would be followed for ever
        for name in names:
            if name.startswith("."):
                continue
            whole = os.path.join(place, name)
            if not name.lower().endswith(IMAGE_SUFFIXES) and not os.path.exists(whole):
                raise ValueError(  # it may have been a folder of images
                    f"{whole} is a link to {os.readlink(whole)}, which is not there; nearest: rm {whole}"
                )
            yield below + name


def _unlisted(error: OSError) -> None:
    why = f"{error.filename} cannot be listed: {error.strerror}"
    raise ValueError(f"{why}; nearest: chmod u+rx {error.filename}") from None


def _why_no_folder(folder: Path) -> str:
    """What is there instead, with a similar folder if there is one."""
    if folder.is_file():
        kind = "npz" if folder.suffix == ".npz" else ""
        right = f"data=npz data.path={folder}" if kind else f"the folder that holds it, {folder.parent}"
        return f"{folder} is a file, no folder of images; nearest: {right}"
    place = next(parent for parent in folder.absolute().parents if os.path.isdir(parent))
    missing = folder.absolute().relative_to(place)
    try:
        beside = [child.name for child in place.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except OSError as error:
        return f"{place} cannot be listed: {error.strerror}; nearest: chmod u+rx {place}"
    found = similar_file(missing.parts[0], beside)
    right = "a folder of images" if found is None else str(place.joinpath(found, *missing.parts[1:]))
    return f"{folder} does not exist; nearest: {right}"


def files_digest(folder: Path, files: Iterable[Path]) -> str:
    """sha256 of the files' order, contents and names relative to `folder`. Raises ValueError for one that cannot be
    read."""
    content = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                content.update(repr((path.relative_to(folder).as_posix(), size)).encode())
                while chunk := file.read(_CHUNK):
                    content.update(chunk)
        except OSError as error:
            raise ValueError(f"{path} is no image that can be read: {error.strerror}") from None
    return content.hexdigest()


def read_image(file: Path | IO[bytes], *, name: str = "", over_white: bool = False) -> Image.Image:
    """An image file in 8 bits per channel: mode `L` if it is grey, else `RGB`. Of an animation, the first frame.

    EXIF orientation and colour profiles are not applied; see `eight_bits` for transparency and 16 bits. Raises
    ValueError, with the file's path or `name`, if it cannot be decoded completely.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return eight_bits(image, over_white=over_white)
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, struct.error, ...
        why = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise ValueError(f"{name or file} is no image that can be read: {why}") from None


class Colours(NamedTuple):
    """How many files of a set are grey and in colour, by their headers. Files that cannot be read are neither."""

    grey: int
    colour: int

    @property
    def channels(self) -> int:
        """Of the whole set: 3 if any file is in colour, and then grey files have three equal ones; else 1."""
        return 3 if self.colour else 1

    @property
    def mixed(self) -> int:
        """How many files are grey while others are in colour."""
        return self.grey if self.colour else 0


def colours(files: Iterable[Path]) -> Colours:
    """Opens each file, but decodes none."""
    found = list(in_order(_is_grey, files, ahead=THREADS**2))
    return Colours(found.count(True), found.count(False))


def _is_grey(path: Path) -> bool | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode in GREY_MODES
    except Exception:  # as in read_image, which reports it
        return None


def shorter_sides(files: Sequence[Path], most: int = 256) -> list[int]:
    """The shorter side of each image, in pixels, by its header; of many files, of `most` that are spread over them.
    Files that cannot be read are left out."""
    chosen = files if len(files) <= most else [files[place * len(files) // most] for place in range(most)]
    return [side for side in in_order(_shorter_side, chosen, ahead=THREADS**2) if side is not None]


def _shorter_side(path: Path) -> int | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return min(image.size)
    except Exception:  # as in read_image, which reports it
        return None


def eight_bits(image: Image.Image, *, over_white: bool = False) -> Image.Image:
    """An image of any mode as `L` if it is grey, else `RGB`.

    Transparency is dropped as by PIL's `convert("RGB")`, which all published FID code uses; with `over_white` the image
    is composed over white. 16-bit grey is scaled to 8 bits. Raises ValueError for pixels without a known range.
    """
    import numpy as np
    from PIL import Image

    wanted = "L" if image.mode in GREY_MODES else "RGB"
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))  # 65535 -> 255
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels (mode {image.mode}) have no known range; nearest: 8 or 16 bits a channel")
    if over_white and (image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info):
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(wanted)
    image.load()
    image.info.pop("transparency", None)  # PIL warns about palettes with transparency
    return image.convert(wanted)


def image_batches(files: Iterable[Path], batch: int, channels: int) -> Iterator[Tensor]:
    """The files' pixels in order, uint8 (n, C, H, W), with n = `batch` except for the last batch.

    `channels` 1 or 3 converts every file (by ITU-R 601 luma, or by repetition). A few threads decode at most one batch
    ahead. Raises ValueError that names the first file that cannot be read, or that differs in size from the first.
    """
    import numpy as np
    import torch

    if batch < 1 or channels not in (1, 3):
        raise ValueError(f"batch={batch}, channels={channels}; nearest: batch={max(batch, 1)}, channels=3")
    first: tuple[Path, Image.Image] | None = None
    pixels: list[np.ndarray] = []

    def stacked(pixels: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()  # (n, C, H, W)

    for path, image in in_order(lambda path: (path, read_image(path)), files, ahead=max(batch, THREADS)):
        first = first or (path, image)
        if image.size != first[1].size:
            raise ValueError(
                f"{path} has {_size(image)} pixels, {first[0]} has {_size(first[1])}; "
                f"nearest: all images in {_size(first[1])}"
            )
        pixels.append(np.atleast_3d(np.asarray(image.convert("L" if channels == 1 else "RGB"))))  # (H, W, C)
        if len(pixels) == batch:
            yield stacked(pixels)
            pixels = []
    if pixels:
        yield stacked(pixels)


def in_order(function: Callable[[T], R], items: Iterable[T], ahead: int, threads: int = THREADS) -> Iterator[R]:
    """`map` in a few threads, which compute up to `ahead` results in advance."""
    left = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="in order")
    try:
        waiting = deque(pool.submit(function, item) for item in islice(left, ahead))
        while waiting:
            done = waiting.popleft()
            waiting.extend(pool.submit(function, item) for item in islice(left, 1))
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _size(image: Image.Image) -> str:
    return "{}x{}".format(*image.size)
