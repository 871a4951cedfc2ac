"""Packed datasets in stores: brought here, looked through, verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gan_core.data.manifest import MANIFEST, Manifest, Shard
from gan_core.settings import SettingsError
from infra.files import write_atomic
from infra.stores.protocol import NotThereError, Progress, Store
from infra.threads import each
from pipelines.settings import as_settings_error

AT_ONCE = 4
"""Shards that are moved at the same time."""


def bring(store: Store, files: Sequence[Shard], folder: Path, progress: Progress) -> None:
    """Those files of a pack to a folder; what is there whole is not fetched again. Raises StoreError or OSError."""
    each(lambda file: store.get(file.name, folder / file.name, file.sha256, progress), files, AT_ONCE)


def pull(store: Store, folder: Path, setting: str, manifest: Manifest, progress: Progress) -> None:
    """The whole pack to a folder, the manifest last. Goes on where an earlier pull ended. Raises SettingsError."""
    there = folder / MANIFEST
    content = manifest.to_json()
    if there.is_file() and there.read_bytes() != content:
        raise SettingsError(f"{folder} holds another pack; nearest: {folder}-{manifest.content[:8]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with as_settings_error(setting):
            bring(store, manifest.files, folder, progress)
        write_atomic(there, content)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}; nearest: another folder") from None


def found_below(store: Store, setting: str) -> Iterator[tuple[str, Manifest]]:
    """Each pack in a store: what its keys begin with, and its manifest. Raises SettingsError if there is none."""
    with as_settings_error(setting):
        names = [key.removesuffix(MANIFEST) for key, _ in store.listed() if f"/{key}".endswith(f"/{MANIFEST}")]
    if not names:
        raise SettingsError(f"{setting} holds no pack; nearest: ganfleet data pack SOURCE {store.url}")
    for name in names:
        with as_settings_error(setting):
            content = store.read(name + MANIFEST)
        try:
            yield name, Manifest.from_json(content)
        except ValueError:
            continue  # somebody else's file of that name


def damages(store: Store, setting: str, manifest: Manifest, progress: Progress) -> dict[str, str]:
    """A line for each file of a pack that is missing, or is not what it was, by its name. All are read. Raises
    SettingsError."""

    def look(file: Shard) -> str:
        try:
            size = store.about(file.name).size
            if size != file.size:
                return f"{file.name} has {size} bytes, not {file.size}"
            found = store.digest(file.name, progress)
        except NotThereError:
            return f"{file.name} is missing"
        return "" if found == file.sha256 else f"{file.name} has sha256 {found[:16]}, not {file.sha256[:16]}"

    with as_settings_error(setting), ThreadPoolExecutor(AT_ONCE, thread_name_prefix="verify") as pool:
        looked = zip(manifest.files, pool.map(look, manifest.files), strict=True)
        return {file.name: line for file, line in looked if line}
