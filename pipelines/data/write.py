"""`ganfleet data pack`: a dataset as a game sees it, as shards and a manifest in a folder or a bucket."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from gan_core import data
from gan_core.data.byte_images import ByteImages
from gan_core.data.dataset import Dataset
from gan_core.data.manifest import MANIFEST, Manifest, Shard
from gan_core.experiment import Data
from gan_core.settings import SettingsError
from infra.stores.protocol import NotThereError, Progress, Store
from pipelines.data.transfer import damages
from pipelines.settings import as_settings_error


@dataclass(frozen=True)
class Plan:
    """What a dataset will be in a store: the same for the same images, wherever and whenever."""

    manifest: Manifest
    arrays: dict[str, np.ndarray]
    """By the names of the files."""


def planned(source: Data, shard_bytes: int) -> Plan:
    """The whole dataset of those settings, cut into shards of about that many bytes. Raises SettingsError."""
    dataset = data.load(source)
    if not dataset.is_images:
        raise SettingsError(f"{dataset.name} are points, which are drawn at every start; nearest: digits")
    images, labels = _values(dataset), dataset.labels.numpy().astype("<i8", copy=False)
    rows = max(1, shard_bytes // images[0].nbytes)
    parts = [images[at : at + rows] for at in range(0, len(images), rows)]
    shards = [_shard("images", number, part) for number, part in enumerate(parts)]
    of_labels = _shard("labels", 0, labels)
    count, channels, size, _ = images.shape
    manifest = Manifest(
        name=dataset.name,
        images=count,
        classes=dataset.classes,
        channels=channels,
        image_size=size,
        values=images.dtype.name,
        shards=tuple(shards),
        labels=of_labels,
    )
    arrays = {shard.name: part for shard, part in zip(manifest.files, [*parts, labels], strict=True)}
    return Plan(manifest, arrays)


def write(plan: Plan, store: Store, setting: str, progress: Progress) -> int:
    """Puts all that is not there yet, of an earlier pack that was interrupted, and what is damaged in one that was not;
    the manifest last.

    Returns how many files were written. Raises SettingsError, also if another pack is there.
    """
    manifest = plan.manifest
    with as_settings_error(setting), TemporaryDirectory(prefix="ganfleet-pack-") as aside:
        whole = _is_there(store, manifest)
        missing = _damaged(store, setting, manifest, progress) if whole else _unput(store, manifest, progress)
        for file in missing:
            path = Path(aside, file.name)
            with path.open("wb") as opened:
                _write(opened, plan.arrays[file.name])
            store.put(path, file.name, progress)
            path.unlink()
        if not whole:
            store.write(MANIFEST, manifest.to_json())
    return len(missing) + (not whole)


def _values(dataset: Dataset) -> np.ndarray:
    """As they are stored: bytes, where images are bytes."""
    if isinstance(dataset.images, ByteImages):
        return dataset.images.stored.numpy()
    return dataset.images.float().numpy().astype("<f4", copy=False)


class _Hashed:
    """A file of which only the digest and the length are kept."""

    def __init__(self) -> None:
        self.content, self.size = hashlib.sha256(), 0

    def write(self, some: bytes) -> None:
        self.content.update(some)
        self.size += len(some)


def _write(file: Any, values: np.ndarray) -> None:
    np.lib.format.write_array(file, np.ascontiguousarray(values), version=(1, 0))


def _shard(stem: str, number: int, values: np.ndarray) -> Shard:
    file = _Hashed()
    _write(file, values)
    sha256 = file.content.hexdigest()
    return Shard(name=f"{stem}-{number:05d}-{sha256[:12]}.npy", sha256=sha256, size=file.size, images=len(values))


def _damaged(store: Store, setting: str, manifest: Manifest, progress: Progress) -> list[Shard]:
    """The files of a whole pack that are to be put again; for that all are read."""
    found = damages(store, setting, manifest, progress)
    return [file for file in manifest.files if file.name in found]


def _unput(store: Store, manifest: Manifest, progress: Progress) -> list[Shard]:
    """The files that an interrupted pack has not put."""
    missing = [file for file in manifest.files if not _is_put(store, file)]
    progress(manifest.size - sum(file.size for file in missing))
    return missing


def _is_put(store: Store, file: Shard) -> bool:
    with suppress(NotThereError):
        about = store.about(file.name)
        return (about.size, about.sha256) == (file.size, file.sha256)
    return False


def _is_there(store: Store, manifest: Manifest) -> bool:
    """Whether the manifest is. Raises SettingsError if another pack's is."""
    with suppress(NotThereError):
        if store.read(MANIFEST) == manifest.to_json():
            return True
        raise SettingsError(f"{store.url} holds another pack; nearest: {store.url}-{manifest.content[:8]}")
    return False
