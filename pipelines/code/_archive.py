"""One archive of modules: packed by the driver, unpacked once on each machine, put on the path of imports."""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gan_core.files import cache_folder
from gan_core.settings import SettingsError, installed
from infra.bounded_folder import BoundedFolder
from infra.files import write_atomic
from pipelines.code._files import modules_of

_ROOM = 2 * 10**9
"""Bytes of unpacked archives that a machine keeps."""
_WHOLE = ".whole"
_TIME = (1980, 1, 1, 0, 0, 0)
"""Of all files in an archive: equal files make equal archives."""


def pack(files: Mapping[str, Path]) -> bytes:
    """The archive of these files. Raises SettingsError if one cannot be read."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            try:
                archive.writestr(zipfile.ZipInfo(name, _TIME), path.read_bytes(), zipfile.ZIP_DEFLATED)
            except (OSError, UnicodeEncodeError) as error:
                why = getattr(error, "strerror", None) or "its name is no UTF-8"
                raise SettingsError(
                    f"compute.ship: {str(path)!r} cannot be read: {why}", nearest="a folder of modules alone"
                ) from None
    return content.getvalue()


def changed_files(before: bytes, after: bytes) -> list[str]:
    """The names of the files that two archives do not have in common."""
    was, now = _digests(before), _digests(after)
    return sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))


def modules_in(archive: bytes) -> set[str]:
    """The names that `import` takes of an archive's modules."""
    return modules_of(_digests(archive))


def _digests(archive: bytes) -> dict[str, tuple[int, int]]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {one.filename: (one.CRC, one.file_size) for one in opened.infolist()}


def digest_of(archive: bytes) -> str:
    """The name of an archive's folder in the cache."""
    return hashlib.sha256(archive).hexdigest()[:32]


def unpacked(archive: bytes) -> Path:
    """The folder of this machine's cache with the archive's files; one process unpacks, the others wait."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        size = sum(one.file_size for one in opened.infolist())

        def make(folder: Path) -> None:
            opened.extractall(folder)
            write_atomic(folder / _WHOLE, b"")

        cache = BoundedFolder(cache_folder() / "code", _ROOM)
        try:
            return cache.use(digest_of(archive), size, lambda folder: (folder / _WHOLE).is_file(), make, lambda: None)
        except OSError as error:
            raise SettingsError(
                f"the cache {cache.root} cannot be written: {error.strerror or error}", nearest="GANFLEET_CACHE=FOLDER"
            ) from None


def make_importable(folders: Sequence[Path]) -> None:
    """Modules in these folders are imported before all others of their names."""
    for folder in reversed(folders):
        place = str(folder)
        if place in sys.path:
            sys.path.remove(place)
        sys.path.insert(0, place)
    importlib.invalidate_caches()
    installed.cache_clear()  # the folders may have entry points
