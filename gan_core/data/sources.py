"""Sources of images by name. A source is looked up at every start, but opened only if the decode cache lacks it.

Nothing here imports torch or NumPy before a source is opened, so that a wrong path is reported at once.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.data.file_set import FileSet
from gan_core.data.image_files import colours, eight_bits, image_files, read_image, shorter_sides
from gan_core.experiment import Data
from gan_core.settings import SettingsError, similar

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

PATCHES = 4096
"""Number of patches of the two photographs together."""
_PHOTOS = ("china", "flower")
"""The photographs' names, in the order of scikit-learn."""


@dataclass(frozen=True)
class ImageReader:
    """Reads N images one by one. Several threads may read at once."""

    labels: np.ndarray
    """Labels (N,), from 0 to `classes` - 1."""
    classes: int
    channels: int
    """1 if all images are grey, else 3."""
    read: Callable[[int], Image.Image]
    """The i-th image, grey or RGB. Raises ValueError naming it if it cannot be used."""
    class_names: tuple[str, ...] = ()
    """What the user calls the classes, in their order; empty if there is one class, or if they have no names."""
    grey: int = 0
    """How many images are grey while others are in colour."""


@dataclass(frozen=True)
class ImageSource:
    """Images that were found but not read yet."""

    files: FileSet
    """All files that decide what the images are."""
    open: Callable[[], ImageReader]
    count: int | None = None
    """How many images there are, as far as that is known before they are read. So are the other fields."""
    classes: int | None = None
    sides: Callable[[], list[int]] = list
    """The shorter sides of some of the images, in pixels."""
    notes: tuple[str, ...] = ()
    """Lines that a user should read once."""


def in_class_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names without repetition: whole numbers by value, then the others as text."""

    def place(name: str) -> tuple[bool, int, str]:
        number = name.isascii() and name.isdecimal()
        return not number, int(name) if number else 0, name

    return tuple(sorted(set(names), key=place))


def readable(name: str) -> str:
    """A file's name as text of one line: what cannot be printed, or is no UTF-8, is escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)


def files_below(folder: Path) -> list[Path]:
    """The images of `data.path`. Raises SettingsError if there are none."""
    try:
        return image_files(folder)
    except ValueError as error:
        raise SettingsError(f"data.path: {error}") from None


def _folder(settings: Data, root: Path) -> ImageSource:
    """Images in folders. The class is the first folder below the root; without folders there is one class."""
    files = files_below(root)
    depth = len(root.parts)
    classes = [path.parts[depth] if len(path.parts) > depth + 1 else "" for path in files]
    names = in_class_order(classes)
    if "" in names and len(names) > 1:
        loose = files[classes.index("")]
        right = next(name for name in names if name)
        raise SettingsError(
            f"data.path={root}: {loose.name} lies beside the folders of classes", nearest=str(loose.parent / right)
        )
    numbers = {name: number for number, name in enumerate(names)}

    def opened() -> ImageReader:
        import numpy as np

        found = colours(files)
        return ImageReader(
            np.array([numbers[name] for name in classes]),
            len(names),
            found.channels,
            lambda index: read_image(files[index], over_white=True),
            tuple(map(readable, names)) if len(names) > 1 else (),
            found.mixed,
        )

    notes = () if names == ("",) else tuple(_without_images(root, names))
    return ImageSource(FileSet(root, files), opened, len(files), len(names), partial(shorter_sides, files), notes)


def _without_images(root: Path, classes: Iterable[str]) -> Iterator[str]:
    """A note that names the folders which would be classes if they held an image."""
    beside = (one.name for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
    empty = sorted({*beside} - {*classes})
    if empty:
        more = f", and {len(empty) - 5} more" if len(empty) > 5 else ""
        yield f"no image in {', '.join(map(readable, empty[:5]))}{more} of {root}: no class of that name"


def _npz(settings: Data, root: Path) -> ImageSource:
    """`images` uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), C 1, 3 or 4, and optionally integer `labels` (N,)."""
    if not root.is_file():
        right = next((str(path) for path in sorted(root.parent.glob("*.npz"))), "data.path=FILE.npz")
        raise SettingsError(f"data.path={root} is no file", nearest=right)
    shape, labelled = _shape_in(root)
    count, side = (shape[0], min(shape[1:3])) if shape else (None, None)
    classes = None if labelled or not shape else 1
    sides = [] if side is None else [side]
    return ImageSource(FileSet(root.parent, [root]), lambda: _open_npz(root), count, classes, lambda: sides)


def _shape_in(path: Path) -> tuple[tuple[int, ...], bool]:
    """The shape (N, H, W, C) of an npz file's images by their header, and whether there are labels. The shape is empty
    for what `_open_npz` refuses."""
    from numpy.lib import format as npy

    try:
        with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
            read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
            shape, labelled = read(file)[0], "labels.npy" in archive.namelist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return (), False
    if len(shape) == 4 and channels_come_first(shape):
        shape = (shape[0], *shape[2:], shape[1])
    return ((*shape, 1)[:4] if len(shape) in (3, 4) and all(shape) else ()), labelled


def channels_come_first(shape: tuple[int, ...]) -> bool:
    """Whether four sides are (N, C, H, W) rather than (N, H, W, C)."""
    return shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4)


def _open_npz(path: Path) -> ImageReader:
    import numpy as np

    try:
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in ("images", "labels") if name in arrays}
            known = list(arrays)
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise SettingsError(
                f"data.path={path} cannot be read: {error.strerror}", nearest=f"chmod u+r {path}"
            ) from None
        raise SettingsError(
            f"data.path={path} is no npz file of plain arrays: {error}", nearest="np.savez(FILE, images=...)"
        ) from None
    if "images" not in found:
        found_name = similar("images", known) or (known[0] if len(known) == 1 else None)
        right = f"rename '{found_name}'" if found_name else "np.savez(FILE, images=...)"
        raise SettingsError(f"data.path={path} has no array 'images' ({', '.join(known)})", nearest=right)
    images = _channels_last(path, found["images"])
    labels, names = numbered(f"data.path={path}: 'labels'", found.get("labels"), len(images))
    channels = 1 if images.shape[3] == 1 else 3
    return ImageReader(labels, max(len(names), 1), channels, lambda index: from_array(images[index]), names)


def _channels_last(path: Path, images: np.ndarray) -> np.ndarray:  # (N, H, W, C)
    import numpy as np

    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4 and channels_come_first(images.shape):
        images = images.transpose(0, 2, 3, 1)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3, 4) or not images.size:
        raise SettingsError(
            f"data.path={path}: 'images' is {images.dtype} {images.shape}", nearest="uint8 (N, H, W, C), C 1, 3 or 4"
        )
    return images


def numbered(what: str, labels: np.ndarray | None, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (N,), whole numbers or words, renumbered as 0 .. K - 1, which keeps their order, and the K values as
    names; none for one class. Raises SettingsError."""
    import numpy as np

    if labels is None:
        return np.zeros(count, dtype=np.int64), ()
    known = np.issubdtype(labels.dtype, np.integer) or labels.dtype.kind == "U"
    if labels.shape != (count,) or not known:
        raise SettingsError(f"{what} is {labels.dtype} {labels.shape}", nearest=f"whole numbers ({count},)")
    values, numbers = np.unique(labels, return_inverse=True)
    return numbers, tuple(map(str, values.tolist())) if len(values) > 1 else ()


def from_array(pixels: np.ndarray) -> Image.Image:
    """Bytes (H, W, C), C 1, 3 or 4, as an image, `L` or `RGB`; transparency is composed over white."""
    import numpy as np
    from PIL import Image

    single = pixels.shape[2] == 1
    return eight_bits(Image.fromarray(np.ascontiguousarray(pixels[..., 0] if single else pixels)), over_white=True)


def _photos(settings: Data, root: Path) -> ImageSource:
    """Square patches of scikit-learn's two photographs (a Chinese temple, a flower); the class is the photograph.

    The side of a patch is a quarter to three quarters of the photograph's height, and at least the image's side.
    Patches overlap, so withheld ones are not independent of the others.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("scikit-learn, which ships the photographs, is not installed")
    folder = Path(spec.origin).parent / "datasets" / "images"
    files = FileSet(folder, [folder / f"{name}.jpg" for name in _PHOTOS])
    return ImageSource(files, partial(_open_photos, settings), PATCHES, len(_PHOTOS))


def _open_photos(settings: Data) -> ImageReader:
    import numpy as np
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from gan_core.streams import seeded

    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    labels = np.arange(PATCHES) % len(photos)
    draw = torch.rand(PATCHES, 3, generator=seeded("cpu", "photos", "patches")).tolist()

    def patch(index: int) -> Image.Image:
        photo, (size, x, y) = photos[labels[index]], draw[index]
        smallest, largest = max(photo.height // 4, *settings.size), photo.height * 3 // 4
        side = smallest + round(size * (largest - smallest))
        left, top = round(x * (photo.width - side)), round(y * (photo.height - side))
        return photo.crop((left, top, left + side, top + side))

    return ImageReader(labels, len(photos), 3, patch, _PHOTOS)


SOURCES: dict[str, Callable[[Data, Path], ImageSource]] = {"photos": _photos, "folder": _folder, "npz": _npz}
