"""Reads a pack in a folder, which `ganfleet data pack` wrote or `data pull` fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gan_core.data.decode_cache import DecodedImages
from gan_core.data.manifest import MANIFEST, Manifest
from gan_core.experiment import Data
from gan_core.settings import SettingsError

JOINED = "images.npy"
"""All shards joined into one file, which can be memory-mapped as a whole."""


def packed(settings: Data) -> tuple[str, DecodedImages]:
    """The name of the dataset that was packed, and its images: bytes, or float32 in [-1, 1].

    A single file is memory-mapped; several shards are read into memory. Lengths of files are checked, digests are not.
    Raises SettingsError if the folder holds no complete pack, or one of another image size.
    """
    if not isinstance(settings.path, Path):
        raise SettingsError(
            f"data.path={settings.path} is not on this machine", nearest=f"ganfleet data pull {settings.path} FOLDER"
        )
    manifest = _manifest(settings.path)
    manifest.check(settings)
    try:
        images, labels = _images(settings.path, manifest), _array(settings.path / manifest.labels.name)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(settings.path, error) from None
    if (images.shape, str(images.dtype)) != (manifest.shape, manifest.values) or len(labels) != len(images):
        raise _damaged(settings.path, f"{images.dtype} {images.shape}, {len(labels)} labels")
    found = DecodedImages(images, labels, manifest.classes, [], manifest.class_names, content=manifest.content)
    return manifest.name, found


def _manifest(folder: Path) -> Manifest:
    try:
        return Manifest.from_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(
            f"data.path={folder} is no pack: it has no {MANIFEST}", nearest=f"ganfleet data pack SOURCE {folder}"
        ) from None
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{MANIFEST}: {error}") from None


def _damaged(folder: Path, why: object) -> SettingsError:
    return SettingsError(f"data.path={folder} is damaged: {why}", nearest=f"ganfleet data verify {folder}")


def _images(folder: Path, manifest: Manifest) -> np.ndarray:
    if (folder / JOINED).is_file():
        return _array(folder / JOINED)
    shards = [_array(folder / shard.name) for shard in manifest.shards]
    return shards[0] if len(shards) == 1 else np.concatenate(shards)


def _array(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="c")  # copy-on-write: torch wants writable memory
