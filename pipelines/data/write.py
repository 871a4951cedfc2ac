"""`ganfleet data pack`: writes a dataset, as training sees it, as shards and a manifest in a folder or a bucket."""

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
from gan_core.files import Bars, no_bars
from gan_core.settings import SettingsError
from gan_core.settings.image_size import written_size
from infra.stores.protocol import NotThereError, Progress, Store
from pipelines.data.transfer import find_damage
from pipelines.settings import as_settings_error


@dataclass(frozen=True)
class PackPlan:
    """The files of a pack, before they are written. The same images always make the same files."""

    manifest: Manifest
    arrays: dict[str, np.ndarray]
    """The content of the files, by their names."""
    notes: tuple[str, ...] = ()
    """Lines that a user should read once: what was left out or converted."""


def plan_pack(source: Data, shard_bytes: int, bars: Bars = no_bars) -> PackPlan:
    """Plans the pack of a whole dataset, in shards of about `shard_bytes`. Raises SettingsError."""
    return plan_of(data.load(source, bars=bars), shard_bytes)


def plan_of(dataset: Dataset, shard_bytes: int) -> PackPlan:
    """The same of a dataset that was loaded."""
    if not dataset.is_images:
        raise SettingsError(f"{dataset.name} are points, which are drawn at every start", nearest="digits")
    images, labels = _values(dataset), dataset.labels.numpy().astype("<i8", copy=False)
    rows = max(1, shard_bytes // images[0].nbytes)
    parts = [images[at : at + rows] for at in range(0, len(images), rows)]
    shards = [_shard("images", number, part) for number, part in enumerate(parts)]
    count, channels, *size = images.shape
    manifest = Manifest(
        name=dataset.name,
        images=count,
        classes=dataset.classes,
        class_names=dataset.class_names,
        channels=channels,
        image_size=written_size(*size),
        values=images.dtype.name,
        shards=tuple(shards),
        labels=_shard("labels", 0, labels),
    )
    arrays = {shard.name: part for shard, part in zip(manifest.files, [*parts, labels], strict=True)}
    return PackPlan(manifest, arrays, dataset.notes)


def write_pack(plan: PackPlan, store: Store, setting: str, progress: Progress) -> int:
    """Writes the files that the store lacks, the manifest last. Of a pack that is complete it writes the damaged files.

    Returns how many files it wrote. Raises SettingsError, also if the store holds another pack.
    """
    manifest = plan.manifest
    with as_settings_error(setting), TemporaryDirectory(prefix="ganfleet-pack-") as aside:
        complete = _has_manifest(store, manifest)
        if complete:
            damaged = find_damage(store, setting, manifest, progress)
            missing = [file for file in manifest.files if file.name in damaged]
        else:
            missing = [file for file in manifest.files if not _is_there(store, file)]
            progress(manifest.size - sum(file.size for file in missing))
        for file in missing:
            path = Path(aside, file.name)
            with path.open("wb") as opened:
                _write(opened, plan.arrays[file.name])
            store.put(path, file.name, progress)
            path.unlink()
        if not complete:
            store.write(MANIFEST, manifest.to_json())
    return len(missing) + (not complete)


def _values(dataset: Dataset) -> np.ndarray:
    """The images as a pack stores them: uint8 if the dataset holds bytes, else float32."""
    if isinstance(dataset.images, ByteImages):
        return dataset.images.stored.numpy()
    return dataset.images.float().numpy().astype("<f4", copy=False)


class _DigestFile:
    """A file that keeps only the digest and the length of what is written."""

    def __init__(self) -> None:
        self.sha256, self.size = hashlib.sha256(), 0

    def write(self, some: bytes) -> None:
        self.sha256.update(some)
        self.size += len(some)


def _write(file: Any, values: np.ndarray) -> None:
    np.lib.format.write_array(file, np.ascontiguousarray(values), version=(1, 0))


def _shard(stem: str, number: int, values: np.ndarray) -> Shard:
    file = _DigestFile()
    _write(file, values)
    sha256 = file.sha256.hexdigest()
    return Shard(name=f"{stem}-{number:05d}-{sha256[:12]}.npy", sha256=sha256, size=file.size, images=len(values))


def _is_there(store: Store, file: Shard) -> bool:
    with suppress(NotThereError):
        about = store.about(file.name)
        return (about.size, about.sha256) == (file.size, file.sha256)
    return False


def _has_manifest(store: Store, manifest: Manifest) -> bool:
    """Whether the store holds this manifest. One that only lacks the classes' names, as earlier versions wrote it, is
    replaced. Raises SettingsError if it holds another one."""
    with suppress(NotThereError):
        found = store.read(MANIFEST)
        if found == manifest.to_json():
            return True
        nameless = Manifest.model_validate({**manifest.model_dump(exclude={"content"}), "class_names": ()})
        if found == nameless.to_json():
            return False
        raise SettingsError(f"{store.url} holds another pack", nearest=f"{store.url}-{manifest.content[:8]}")
    return False
