"""Files in S3 or in a folder, by one protocol (`infra.stores.protocol`).

Other packages call `open_store`. boto3 is imported only when a store in S3 is opened.
"""

from __future__ import annotations

from pathlib import Path

from infra.stores.protocol import Store, StoreError, StoreOptions

__all__ = ["open_store"]


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """The store at `s3://bucket/prefix` or in a local folder; it is not asked yet. Raises StoreError for other URLs."""
    if url.startswith("s3://"):
        from infra.stores.s3 import S3Store

        return S3Store(url, options or StoreOptions())
    if "://" in url:
        raise StoreError(f"{url} is neither s3://bucket/prefix nor a folder")
    from infra.stores.local import LocalStore

    return LocalStore(Path(url))
