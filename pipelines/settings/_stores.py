"""Opens the stores that settings name, and turns their errors into SettingsErrors that name the setting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gan_core.data.manifest import MANIFEST, Manifest
from gan_core.settings import SettingsError
from infra.stores import open_store as opened
from infra.stores.protocol import (
    DamagedError,
    NoPlaceError,
    NotThereError,
    RefusedError,
    Store,
    StoreError,
    StoreOptions,
    UnreachableError,
)
from pipelines.settings._storage import Storage


class UnavailableError(SettingsError):
    """The server that a setting names does not answer. The setting may be wrong, or the server may be back later."""


def open_store(location: str | Path, storage: Storage) -> Store:
    """The store at `s3://bucket/prefix`, or in a folder. Raises SettingsError if `location` is neither."""
    try:
        return opened(str(location), StoreOptions(storage.endpoint_url))
    except StoreError as error:
        raise SettingsError(str(error), nearest="s3://bucket/prefix, or a folder") from None


@contextmanager
def as_settings_error(setting: str) -> Iterator[None]:
    """Turns StoreErrors into SettingsErrors. `setting`: what the user typed, such as `data.path=s3://...`.

    Raises UnavailableError, a SettingsError after which a batch job is started again, if the store did not answer.
    """
    try:
        yield
    except StoreError as error:
        location = setting.partition("=")[2] or setting
        why = str(error).removeprefix(f"{location}: ")
        kind = UnavailableError if isinstance(error, UnreachableError) else SettingsError
        raise kind(f"{setting}: {why}", nearest=_nearest(error, location)) from None


def _nearest(error: StoreError, location: str) -> str:
    if isinstance(error, RefusedError) and not location.startswith("s3://"):
        return "a folder that is yours"
    if isinstance(error, RefusedError):
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of somebody who may"
    if isinstance(error, UnreachableError):
        return "storage.endpoint_url=http://HOST:PORT (or AWS_ENDPOINT_URL) of a store that answers"
    if isinstance(error, NoPlaceError) or str(error) == f"there is no {location}":  # by a server that is no S3
        return "a bucket or folder that is there, or another storage.endpoint_url="
    return f"ganfleet data verify {location}" if isinstance(error, DamagedError | NotThereError) else "another place"


def read_manifest(store: Store, setting: str) -> Manifest:
    """The manifest of the pack in a store. Raises SettingsError if there is none or it is damaged."""
    with as_settings_error(setting):
        try:
            content = store.read(MANIFEST)
        except NoPlaceError:
            raise
        except NotThereError:
            raise SettingsError(
                f"{setting} is no pack: it has no {MANIFEST}", nearest=f"ganfleet data pack SOURCE {store.url}"
            ) from None
        except DamagedError as error:
            raise _damaged(store, setting, str(error)) from None
    try:
        return Manifest.from_json(content)
    except ValueError as error:
        raise _damaged(store, setting, f"{MANIFEST} is damaged: {error}") from None


def _damaged(store: Store, setting: str, why: str) -> SettingsError:
    return SettingsError(f"{setting}: {why}", nearest=f"delete it and ganfleet data pack SOURCE {store.url}")
