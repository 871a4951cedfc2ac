"""Packs for training: each machine fetches a pack once, into a cache of bounded size."""

from __future__ import annotations

import io
import logging
import math
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from rich.console import Console

from gan_core.data.manifest import MANIFEST, Manifest
from gan_core.data.packed import JOINED
from gan_core.experiment import Data
from gan_core.files import cache_folder
from gan_core.settings import SettingsError
from infra.bounded_folder import BoundedFolder, FullError
from infra.files import write_atomic
from infra.stores.protocol import Progress, Store, UnreachableError, silent
from pipelines.console import byte_bar, say
from pipelines.data.transfer import fetch_files
from pipelines.settings import Storage, UnavailableError, as_settings_error, open_store, read_manifest

_LOG = logging.getLogger(__name__)
_found: dict[tuple[Data, Storage], Data] = {}


def local_data(data: Data, storage: Storage, console: Console | None = None) -> Data:
    """The settings of the same data on this machine. For a pack `path` becomes its folder in the cache.

    One process of a machine fetches and checks the digests, and the others wait. Raises SettingsError if the place or
    the pack is wrong, or if the cache is too small or cannot be written.
    """
    if not data.is_pack:
        return data
    if (data, storage) not in _found:  # a process plays many trials on one pack
        _found[data, storage] = data.model_copy(update={"path": _fetched(data, storage, console)})
    return _found[data, storage]


def worker_data(data: Data, storage: Storage) -> Data:
    """`local_data` for a worker, whose driver has checked the setting. Raises UnreachableError if the store does not
    answer, because then the settings of the run are not the cause."""
    try:
        return local_data(data, storage)
    except UnavailableError as error:
        raise UnreachableError(str(error)) from None


def _fetched(data: Data, storage: Storage, console: Console | None) -> Path:
    assert data.path is not None
    setting = f"data.path={data.path}"
    store = open_store(data.path, storage)
    manifest = read_manifest(store, setting)
    manifest.check(data)
    cache = BoundedFolder(cache_folder() / "packs", round(storage.cache_gb * 1e9))

    def make(folder: Path) -> None:
        bar = nullcontext(silent) if console is None else byte_bar(console, f"fetching {data.path}", manifest.size)
        with as_settings_error(setting), bar as progress:
            _make(store, manifest, folder, progress)

    try:
        return cache.use(
            manifest.content[:32],
            manifest.size,
            whole=lambda folder: _is_whole(folder, manifest),
            make=make,
            waiting=lambda: _print(console, f"waiting for another process that fetches {data.path}"),
        )
    except FullError as error:
        right = -(-(error.needed + error.used) // 10**7) / 100
        in_use = f", and packs of {error.used / 1e9:.3g} GB are in use" if error.used else ""
        raise SettingsError(
            f"storage.cache_gb={storage.cache_gb:g}, but {setting} takes {error.needed / 1e9:.3g} GB{in_use}",
            nearest=f"storage.cache_gb={right:g}",
        ) from None
    except OSError as error:
        raise SettingsError(
            f"the cache {cache.root} cannot be written: {error.strerror or error}", nearest="GANFLEET_CACHE=FOLDER"
        ) from None


def _print(console: Console | None, line: str) -> None:
    if console is None:
        _LOG.warning("%s", line)
    else:
        say(console, line)


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether a folder of the cache is complete. The manifest is written last, but a crash may lose parts of other
    files, so their lengths are checked too."""
    try:
        images = np.load(folder / JOINED, mmap_mode="r")
        labels = (folder / manifest.labels.name).stat().st_size
        return (folder / MANIFEST).read_bytes() == manifest.to_json() and (images.shape, labels) == (
            manifest.shape,
            manifest.labels.size,
        )
    except (OSError, ValueError, EOFError):
        return False


def _make(store: Store, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """Fetches the missing files, then joins the shards to one file, which all processes map into memory.

    It continues an interrupted call: shards that were joined or fetched are not fetched again.
    """
    aside = folder / f".{JOINED}.part"
    size = aside.stat().st_size if aside.is_file() else 0
    joined = max((n for n in range(1, len(manifest.shards) + 1) if _offset(manifest, n) <= size), default=0)
    progress(sum(shard.size for shard in manifest.shards[:joined]))
    fetch_files(store, [manifest.labels, *manifest.shards[joined:]], folder, progress)
    with aside.open("r+b" if joined else "w+b") as file:
        file.write(_header(manifest))
        file.seek(_offset(manifest, joined))
        file.truncate()
        for shard in manifest.shards[joined:]:
            np.load(folder / shard.name, mmap_mode="r").tofile(file)
            file.flush()
            os.fsync(file.fileno())
            (folder / shard.name).unlink()
    os.replace(aside, folder / JOINED)
    for shard in manifest.shards:  # after a crash a shard may exist that was joined already
        (folder / shard.name).unlink(missing_ok=True)
    write_atomic(folder / MANIFEST, manifest.to_json())


def _header(manifest: Manifest) -> bytes:
    kind = np.lib.format.dtype_to_descr(np.dtype(manifest.values))
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": manifest.shape})
    return file.getvalue()


def _offset(manifest: Manifest, shards: int) -> int:
    """The byte at which the images after the first `shards` shards begin."""
    row = math.prod(manifest.shape[1:]) * np.dtype(manifest.values).itemsize
    return len(_header(manifest)) + row * sum(shard.images for shard in manifest.shards[:shards])
