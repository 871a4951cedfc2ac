"""Images of Python's objects in the form that games take: one size, bytes, random order."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gan_core.data.decode_cache import DecodedImages, decode_into, open_decoded
from gan_core.data.given.kinds import GivenImages, given_images
from gan_core.experiment import Data
from gan_core.files import Bars
from gan_core.settings import SettingsError
from gan_core.settings.image_size import size_of, written_size

ARRAYS = "npz"
"""The name of a data set of arrays, in a file or not: the same images are the same data set, and the same game."""


def decode_given(what: str, data: Any, image_size: int | str | None, cache: Path, bars: Bars) -> DecodedImages:
    """The images of a tensor, an array, (images, labels), a sequence, or a Dataset of torch or Hugging Face.

    `what` names the object in errors. `image_size` None: the size that all images have. Floats from 0 to 1, or from -1
    to 1 if any is negative, are rounded to 256 levels. Files in `cache` are deleted, and what is in memory is mapped
    from them. Raises SettingsError.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".given-", dir=cache, ignore_cleanup_errors=True) as folder:
            given = given_images(what, data, Path(folder, "pixels"), bars)
            size = _own_size(what, given) if image_size is None else size_of(image_size)
            decode_into(Path(folder, "decoded"), given.reader, ARRAYS, size, bars)
            found = open_decoded(Path(folder, "decoded"))
    except OSError as error:
        raise SettingsError(f"the cache {cache} cannot be written: {error}", nearest="GANFLEET_CACHE=FOLDER") from None
    assert found is not None, cache
    if len(found.images) < 2:
        raise SettingsError(f"{what} holds one image", nearest="two or more")
    return found


def _own_size(what: str, given: GivenImages) -> tuple[int, int]:
    """The height and width that all images have. Raises SettingsError if they differ, or if no game takes them."""
    (size, _), *others = given.sizes.most_common()
    if others:
        shown = [f"{height}x{width}" for height, width in (size, others[0][0])]
        raise SettingsError(
            f"{what} has images of {len(given.sizes)} sizes, such as {' and '.join(shown)}",
            nearest=f"data.image_size={written_size(*size)}, to which all are cut",
        )
    try:
        return Data.load({"image_size": written_size(*size)}, prefix="data.").size
    except SettingsError as error:
        raise SettingsError(f"{what} has images of {size[0]}x{size[1]}: {error}") from None
