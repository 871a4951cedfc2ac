"""Images that Python has, written as a pack where all nodes see it."""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.console import Console

from gan_core.data.loading import load_given
from gan_core.files import Bars, no_bars
from gan_core.settings.image_size import written_size
from pipelines.console import byte_bar, count_bar
from pipelines.data.write import plan_of, write_pack
from pipelines.settings import Storage, open_store

PACKS = "packs"
"""The folder of the runs' storage that holds what was given."""
SHARD_BYTES = 64 * 10**6
_NAME_DIGITS = 16


def given_data(
    data: Any,
    storage: Storage,
    console: Console | None = None,
    image_size: int | str | None = None,
    what: str = "data",
) -> dict[str, Any]:
    """Writes images as a pack of the runs' storage, and returns the settings of a game on them: `data.name`,
    `data.path` and `data.image_size`.

    `data`: a tensor or an array (N, H, W), (N, C, H, W) or (N, H, W, C) with C 1 or 3, of bytes or floats; a pair
    (images, labels (N,)); a list of images; a Dataset of torch, of images or (image, label); a Dataset of Hugging Face
    with a column of images, and perhaps one of labels. `gan_core.data.loading.load_given` says how they are read.
    `image_size`: what they are cut to; None: the size that all of them have. `what` names `data` in errors.

    The pack's name is the digest of its content, so the same data are written once. A Dataset may be larger than
    memory. Raises SettingsError.
    """
    bars: Bars = no_bars if console is None else partial(count_bar, console)
    plan = plan_of(load_given(what, data, image_size, bars), SHARD_BYTES)
    place = f"{storage.location}/{PACKS}/{plan.manifest.content[:_NAME_DIGITS]}"
    store = open_store(place, storage)
    if console is None:
        write_pack(plan, store, place, lambda _: None)
    else:
        with byte_bar(console, f"writing the data to {place}", plan.manifest.size) as progress:
            write_pack(plan, store, place, progress)
    return {"data.name": "packed", "data.path": place, "data.image_size": written_size(*plan.manifest.shape[2:])}
