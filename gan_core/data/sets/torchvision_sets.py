"""torchvision's data sets: the train part of MNIST, Fashion-MNIST and CIFAR-10, all of CelebA, and categories of LSUN.

They are downloaded only if that is asked for. The files of MNIST and Fashion-MNIST may be packed by gzip and may lie in
the root itself; those of Debian's package are found where it puts them.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gan_core.data.file_set import FileSet
from gan_core.data.image_files import read_image
from gan_core.data.sources import ImageReader, ImageSource, files_below, readable
from gan_core.experiment import STACKED_PREFIX, Data
from gan_core.settings import SettingsError

if TYPE_CHECKING:
    from PIL import Image

_MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_LSUN = "_train_lmdb"
_CIFAR = (*(f"data_batch_{part}" for part in range(1, 6)), "test_batch", "batches.meta")
_IMAGES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}
_DEBIAN = {"fashion_mnist": (Path("/usr/share/datasets/fashion-mnist"), "dataset-fashion-mnist")}
"""Sets that Debian has: the folder, and the package."""


@dataclass(frozen=True)
class _TorchvisionSet:
    """A class of torchvision.datasets, and the files that it expects below its root."""

    class_name: str
    folder: str
    files: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = (("train", True),)

    @property
    def may_be_packed(self) -> bool:
        """Whether the files may be packed, and lie in the root itself."""
        return self.files == _MNIST

    def expected(self, root: Path) -> list[Path]:
        """The files as torchvision expects them."""
        return [root / self.folder / name for name in self.files]

    def find(self, root: Path) -> list[Path]:
        """The files that there are, or those that there should be."""
        expected = self.expected(root)
        if not self.may_be_packed:
            return expected
        places = [[_packed_or_not(file) for file in expected], [_packed_or_not(root / name) for name in self.files]]
        return max(places, key=lambda files: sum(file.exists() for file in files))  # of equal ones the first

    def missing(self, root: Path) -> list[Path]:
        return [file for file in self.find(root) if not file.exists()]

    def load(self, root: Path, download: bool) -> Any:
        """The instance of torchvision's class."""
        from torchvision import datasets

        return getattr(datasets, self.class_name)(root, download=download, **dict(self.options))


def _packed_or_not(file: Path) -> Path:
    packed = file.with_name(f"{file.name}.gz")
    return packed if packed.exists() and not file.exists() else file


_CLASSES = {
    "mnist": _TorchvisionSet("MNIST", "MNIST/raw", _MNIST),
    "fashion_mnist": _TorchvisionSet("FashionMNIST", "FashionMNIST/raw", _MNIST),
    "cifar10": _TorchvisionSet("CIFAR10", "cifar-10-batches-py", _CIFAR),
    "celeba": _TorchvisionSet("CelebA", "celeba", ("img_align_celeba",), (("split", "all"),)),
}


def _of(settings: Data) -> str:
    """The name of the set, or of the one whose images are stacked."""
    return settings.name.removeprefix(STACKED_PREFIX)


def _with_files(settings: Data, root: Path) -> tuple[_TorchvisionSet, Path]:
    """Makes sure that the files exist. Returns the set and its root, which is Debian's if the user named none and has
    none. Raises SettingsError if they are missing or cannot be downloaded."""
    known = _CLASSES[_of(settings)]
    missing = known.missing(root)
    debian, package = _DEBIAN.get(_of(settings), (None, ""))
    if missing and settings.path is None and debian is not None and not known.missing(debian):
        return known, debian
    if missing and not settings.download:
        right = f"data.download=true, or data.path=FOLDER that holds {known.folder}"
        right += " or its four files, packed as .gz or not" if known.may_be_packed else ""
        right += f", or apt install {package}" if package else ""
        raise SettingsError(f"data.name={settings.name}: there is no {missing[0]}", nearest=right)
    if missing:
        _download(settings, root, known)
    return known, root


def _download(settings: Data, root: Path, known: _TorchvisionSet) -> None:
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{settings.name}.lock"):
            if known.missing(root):
                known.load(root, download=True)
    except (RuntimeError, OSError, ImportError) as error:
        raise SettingsError(
            f"data.download=true: {settings.name} cannot be fetched to {root}: {' '.join(str(error).split())}",
            nearest=f"data.path=FOLDER that holds {known.folder}",
        ) from None


def _arrays(settings: Data, root: Path, channels: int) -> ImageSource:
    """MNIST, Fashion-MNIST and CIFAR-10, which torchvision holds as one array."""
    known, root = _with_files(settings, root)
    files = known.find(root)

    def opened() -> ImageReader:
        import numpy as np
        from PIL import Image

        try:
            with _unpacked(known, root, files) as unpacked:
                found = known.load(unpacked, settings.download and unpacked == root)
            pixels, labels = np.asarray(found.data), np.asarray(found.targets)
            if len(pixels) != len(labels):
                raise ValueError(f"{len(pixels)} images, {len(labels)} labels")
        except Exception as error:  # torchvision's readers raise many types on damaged files
            debian, package = _DEBIAN.get(_of(settings), (None, ""))
            right = f"apt install --reinstall {package}" if root == debian else "delete it and data.download=true"
            raise SettingsError(
                f"data.name={settings.name}: {files[0].parent} is damaged: {' '.join(str(error).split())}",
                nearest=right,
            ) from None
        return ImageReader(labels, 10, channels, lambda index: Image.fromarray(pixels[index]), _names(found.classes))

    return ImageSource(FileSet(root, files), opened, _IMAGES[_of(settings)], 10)


@contextmanager
def _unpacked(known: _TorchvisionSet, root: Path, files: Sequence[Path]) -> Iterator[Path]:
    """The root of the files as torchvision expects them: `root`, or else a temporary folder with the train part, and
    with empty files instead of the test part, which is not read. Raises ValueError that names a damaged file."""
    if not known.may_be_packed:
        yield root
        return
    train = [file for file in files if file.name.startswith("train")]
    with TemporaryDirectory(prefix="ganfleet-") as temporary:
        place = Path(temporary)
        for file, expected in zip(files, known.expected(place), strict=True):
            expected.parent.mkdir(parents=True, exist_ok=True)
            if file not in train:
                expected.touch()
            elif file.suffix == ".gz":
                _unpack(file, expected)
            else:
                expected.symlink_to(file.absolute())
            if file in train:
                _check_size(file, expected)
        yield root if list(files) == known.expected(root) else place


def _unpack(packed: Path, to: Path) -> None:
    try:
        with gzip.open(packed) as content, to.open("wb") as file:
            shutil.copyfileobj(content, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{packed.name}: {error}") from None


def _check_size(file: Path, content: Path) -> None:
    """Raises ValueError that names `file` if its unpacked `content` is longer or shorter than its header says."""
    size = content.stat().st_size
    with content.open("rb") as opened:
        head = opened.read(4)
        shape = opened.read(4 * head[3]) if len(head) == 4 else b""
    if len(head) < 4 or len(shape) < 4 * head[3]:
        raise ValueError(f"{file.name}: {size} bytes are no IDX file")
    wanted = len(head) + len(shape) + math.prod(struct.unpack(f">{head[3]}I", shape))
    if size != wanted:
        raise ValueError(f"{file.name}: {size} bytes, {wanted} by its header")


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    """torchvision's names. MNIST's are `3 - three`, of which the digit is kept."""
    return tuple(name.partition(" - ")[0] for name in classes)


def _celeba(settings: Data, root: Path) -> ImageSource:
    """All 202,599 aligned faces in one class, cut to the 178x178 pixels in the middle."""
    known, root = _with_files(settings, root)
    files = files_below(root / known.folder / known.files[0])

    def opened() -> ImageReader:
        import numpy as np

        labels = np.zeros(len(files), dtype=np.int64)
        return ImageReader(labels, 1, 3, lambda index: read_image(files[index]))

    return ImageSource(FileSet(root, files), opened, len(files), 1)


def _lsun(settings: Data, root: Path) -> ImageSource:
    """The categories whose `NAME_train_lmdb` are in the folder, each a class.

    They are read from LMDB directly, because torchvision's class writes a pickle of the keys to the working directory
    and reads any pickle of that name the next time.
    """
    try:
        folders = sorted(root / name for name in os.listdir(root) if name.endswith(_LSUN))
    except FileNotFoundError:
        folders = []
    except OSError as error:
        raise SettingsError(
            f"data.name=lsun: data.path={root} cannot be listed: {error.strerror}", nearest="data.path=FOLDER"
        ) from None
    if not folders:
        raise SettingsError(f"data.name=lsun: there is no *_train_lmdb in {root}", nearest="data.path=FOLDER of them")
    files = FileSet(root, [folder / "data.mdb" for folder in folders])
    return ImageSource(files, lambda: _open_lsun(folders), classes=len(folders))


def _open_lsun(folders: list[Path]) -> ImageReader:
    import numpy as np

    try:
        lmdb = import_module("lmdb")
    except ImportError:
        raise SettingsError("data.name=lsun needs the package lmdb", nearest="pip install lmdb") from None
    try:
        tables = [lmdb.open(str(folder), readonly=True, lock=False, readahead=False) for folder in folders]
    except lmdb.Error as error:
        raise SettingsError(f"data.name=lsun: {error}", nearest="data.path=FOLDER of whole *_train_lmdb") from None
    where: list[tuple[int, bytes]] = []
    for number, table in enumerate(tables):
        with table.begin() as view:
            where += [(number, key) for key in view.cursor().iternext(keys=True, values=False)]

    def read(index: int) -> Image.Image:
        number, key = where[index]
        with tables[number].begin() as view:
            return read_image(BytesIO(view.get(key)), name=f"{folders[number].name}/{key.decode(errors='replace')}")

    names = tuple(readable(folder.name.removesuffix(_LSUN)) for folder in folders) if len(folders) > 1 else ()
    return ImageReader(np.array([number for number, _ in where]), len(folders), 3, read, names)


TORCHVISION_SETS: dict[str, Callable[[Data, Path], ImageSource]] = {
    "mnist": partial(_arrays, channels=1),
    "fashion_mnist": partial(_arrays, channels=1),
    "cifar10": partial(_arrays, channels=3),
    "celeba": _celeba,
    "lsun": _lsun,
}
