"""Stacked digits: three grey images as the channels of one, each of a class of its own. Of ten classes that makes 1,000
modes, by which it is counted how many modes a generator of images finds.

"Stacked MNIST" of Metz et al. 2017, arXiv:1611.02163, and Srivastava et al. 2017, arXiv:1705.07761.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.data.file_set import FileSet
from gan_core.data.sets.torchvision_sets import TORCHVISION_SETS
from gan_core.data.sources import ImageReader, ImageSource
from gan_core.experiment import STACKED_PREFIX, Data
from gan_core.settings import SettingsError

if TYPE_CHECKING:
    from PIL import Image

    from gan_core.data.dataset import Dataset

CHANNELS = 3
PER_MODE = 50
"""Stacks of each mode, so that the data are uniform over the modes."""


def _digits(settings: Data, root: Path) -> ImageSource:
    """The built-in digits, in the size of the stacks."""
    sklearn = find_spec("sklearn")
    if sklearn is None or sklearn.origin is None:
        raise ModuleNotFoundError("scikit-learn, which ships the digits, is not installed")
    folder = Path(sklearn.origin).parent / "datasets" / "data"

    def opened() -> ImageReader:
        from PIL import Image

        from gan_core.data.byte_images import to_bytes
        from gan_core.data.sets.built_in import BUILT_IN

        digits = BUILT_IN["digits"](settings)
        pixels = to_bytes(digits.images[:, 0]).numpy()
        names = digits.class_names
        return ImageReader(
            digits.labels.numpy(), digits.classes, 1, lambda index: Image.fromarray(pixels[index]), names
        )

    return ImageSource(FileSet(folder, [folder / "digits.csv.gz"]), opened, classes=10)


def _stacked(settings: Data, root: Path, of: Callable[[Data, Path], ImageSource]) -> ImageSource:
    """Stacks of a grey source of ten classes: `PER_MODE` of each mode. Mode 100 a + 10 b + c has images of classes a, b
    and c as its channels, each drawn from all of its class by a fixed seed."""
    source = of(settings, root)
    assert source.classes is not None
    modes = source.classes**CHANNELS
    return replace(source, open=lambda: _open(settings.name, source.open()), count=modes * PER_MODE, classes=modes)


def _open(name: str, single: ImageReader) -> ImageReader:
    import numpy as np
    import torch
    from PIL import Image

    from gan_core.streams import seeded

    classes, modes = single.classes, single.classes**CHANNELS
    sizes = np.bincount(single.labels, minlength=classes)
    if not sizes.all():
        missing = ", ".join(map(str, np.flatnonzero(sizes == 0)))
        raise SettingsError(f"data.name={name}: no image of class {missing} to stack", nearest="the whole data set")
    labels = np.arange(modes * PER_MODE) % modes
    order = np.argsort(single.labels, kind="stable")
    first = np.cumsum(sizes) - sizes
    share = torch.rand(len(labels), CHANNELS, generator=seeded("cpu", name, "stacks"), dtype=torch.float64).numpy()
    places = classes ** np.arange(CHANNELS)[::-1]
    of_channel = labels[:, None] // places % classes  # (N, 3)
    rows = order[first[of_channel] + (share * sizes[of_channel]).astype(np.int64)]  # (N, 3)

    def read(index: int) -> Image.Image:
        return Image.merge("RGB", [single.read(int(row)).convert("L") for row in rows[index]])

    names = single.class_names
    joined = "" if all(len(one) == 1 for one in names) else " + "
    stacked = tuple(joined.join(names[one] for one in mode) for mode in of_channel[:modes])
    return ImageReader(labels, modes, CHANNELS, read, stacked)


def channels_apart(data: Dataset) -> Dataset:
    """The different images among the channels of stacks, each once, in the order of their first use, with its class."""
    import torch

    from gan_core.data.byte_images import ByteImages
    from gan_core.data.dataset import Dataset

    assert isinstance(data.images, ByteImages), "stacks come from the decode cache or a pack"
    channels = data.images.stored.cpu().flatten(0, 1)[:, None]  # (3N, 1, H, W)
    first: dict[bytes, int] = {}
    for row, image in enumerate(channels.numpy()):
        first.setdefault(image.tobytes(), row)
    rows = torch.tensor(list(first.values()))
    classes = round(data.classes ** (1 / CHANNELS))
    places = classes ** torch.arange(CHANNELS).flip(0)
    labels = (data.labels.cpu()[rows // CHANNELS] // places[rows % CHANNELS]) % classes
    name = data.name.removeprefix(STACKED_PREFIX)
    return Dataset(name, ByteImages(channels[rows]), labels, classes)


STACKED: dict[str, Callable[[Data, Path], ImageSource]] = {
    "stacked_digits": partial(_stacked, of=_digits),
    "stacked_mnist": partial(_stacked, of=TORCHVISION_SETS["mnist"]),
    "stacked_fashion_mnist": partial(_stacked, of=TORCHVISION_SETS["fashion_mnist"]),
}
