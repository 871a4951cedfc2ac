"""Packed datasets in stores: fetched, listed and verified."""

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
"""How many shards are moved at the same time."""


def fetch_files(store: Store, files: Sequence[Shard], folder: Path, progress: Progress) -> None:
    """Fetches files of a pack to a folder, except those that are there whole. Raises StoreError or OSError."""
    each(lambda file: store.get(file.name, folder / file.name, file.sha256, progress), files, AT_ONCE)


def pull_pack(store: Store, folder: Path, setting: str, manifest: Manifest, progress: Progress) -> None:
    """Fetches a whole pack to a folder, the manifest last. It continues an interrupted pull. Raises SettingsError."""
    there = folder / MANIFEST
    content = manifest.to_json()
    if there.is_file() and there.read_bytes() != content:
        raise SettingsError(f"{folder} holds another pack", nearest=f"{folder}-{manifest.content[:8]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with as_settings_error(setting):
            fetch_files(store, manifest.files, folder, progress)
        write_atomic(there, content)
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written: {error.strerror or error}", nearest="another folder"
        ) from None


def find_packs(store: Store, setting: str) -> Iterator[tuple[str, Manifest]]:
    """Yields the prefix of the keys and the manifest of each pack in a store. Raises SettingsError if there is none."""
    with as_settings_error(setting):
        names = [key.removesuffix(MANIFEST) for key, _ in store.listed() if f"/{key}".endswith(f"/{MANIFEST}")]
    if not names:
        raise SettingsError(f"{setting} holds no pack", nearest=f"ganfleet data pack SOURCE {store.url}")
    for name in names:
        with as_settings_error(setting):
            content = store.read(name + MANIFEST)
        try:
            yield name, Manifest.from_json(content)
        except ValueError:
            continue  # a file of that name that belongs to something else


def find_damage(store: Store, setting: str, manifest: Manifest, progress: Progress) -> dict[str, str]:
    """Reads all files of a pack. Returns a line for each missing or damaged file, by the name of the file. Raises
    SettingsError."""

    def check(file: Shard) -> str:
        try:
            size = store.about(file.name).size
            if size != file.size:
                return f"{file.name} has {size} bytes, not {file.size}"
            found = store.digest(file.name, progress)
        except NotThereError:
            return f"{file.name} is missing"
        return "" if found == file.sha256 else f"{file.name} has sha256 {found[:16]}, not {file.sha256[:16]}"

    with as_settings_error(setting), ThreadPoolExecutor(AT_ONCE, thread_name_prefix="verify") as pool:
        checked = zip(manifest.files, pool.map(check, manifest.files), strict=True)
        return {file.name: line for file, line in checked if line}
