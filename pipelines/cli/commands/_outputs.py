"""Files that a command writes where the user says: on this machine, or at `s3://bucket/prefix/FILE`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gan_core.settings import SettingsError
from infra.stores.protocol import NoPlaceError, NotThereError, UnreachableError
from infra.tracker import json_number
from pipelines.settings import Storage, as_settings_error, open_store


@contextmanager
def exported(option: str, target: str, storage: Storage) -> Iterator[Path]:
    """The local path to write to. A file for S3 is uploaded at the end of the block, if nothing was raised in it.

    Raises SettingsError before the block if the S3 store cannot be used or `target` names no file.
    """
    if target.startswith("s3://"):
        prefix, _, name = target.rpartition("/")
        if not name or prefix.count("/") < 2:
            raise SettingsError(f"{option} {target} names no file", nearest=f"{option} {target.rstrip('/')}/found")
        store = open_store(prefix, storage)
        with tempfile.TemporaryDirectory() as folder, as_settings_error(f"{option}={target}"):
            try:
                store.about(name)
            except (NoPlaceError, UnreachableError):
                raise
            except NotThereError:
                pass
            yield Path(folder, name)
            store.put(Path(folder, name), name)
    else:
        yield Path(target)


def check_file(option: str, file: Path) -> None:
    """Raises SettingsError if the file cannot be written because of its folder."""
    if not file.absolute().parent.is_dir():
        raise SettingsError(f"{option} {file}: there is no such folder", nearest=f"{option} {file.name}")
    if file.is_dir():
        raise SettingsError(f"{option} {file} is a folder", nearest=f"{option} {file / 'found'}")


def json_text(found: object) -> str:
    """What a command found, as JSON. Numbers that are not finite are written as in `metrics.jsonl`."""
    return json.dumps(_plain(found), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return json_number(value) if isinstance(value, float) else value
