"""S3 through boto3, whose transfer manager moves files by several requests at a time.

Endpoint, region, addressing and credentials come from AWS's usual environment variables and profiles. Only `create`
makes a conditional request, which not every S3 knows: such a store writes without the condition.

A request that breaks off is sent again; a transfer that fails is begun again by the next call. An upload that fails is
aborted, so it leaves no parts in the bucket. A process that is killed leaves the parts it had sent: a lifecycle rule of
the bucket (AbortIncompleteMultipartUpload) deletes them.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import ClientError

from infra.locks import temporary
from infra.stores.protocol import (
    CHUNK,
    About,
    DamagedError,
    NoPlaceError,
    NotThereError,
    Progress,
    StoreError,
    StoreOptions,
    check_digest,
    checked_key,
    digest_of,
    is_whole,
    silent,
)
from infra.stores.s3_errors import BROKEN_OFF, as_store_error, code, replaced

SHA256 = "sha256"
"""The object's metadata that holds its digest."""
WRITER = "writer"
"""The metadata of an object that `create` put: a number of that call's own."""

CONNECT_SECONDS, READ_SECONDS = 5, 60


class S3Store:
    """The objects below a prefix of a bucket. An object's digest is in its metadata."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._name, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if not self._name:
            raise StoreError(f"{url} names no bucket: s3://bucket/prefix")
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{self._name}/{self._prefix}".rstrip("/")
        self._options = options
        self._transfer = TransferConfig(
            multipart_threshold=options.piece,
            multipart_chunksize=options.piece,
            max_concurrency=options.threads,
            num_download_attempts=options.attempts,
            preferred_transfer_client="classic",
        )

    @cached_property
    def _client(self) -> Any:
        """boto3's client, which all threads may use."""
        with as_store_error(self.url, "AWS"):
            return boto3.session.Session().client(
                "s3",
                endpoint_url=self._options.endpoint_url,
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": self._options.attempts},
                    max_pool_connections=4 * self._options.threads,
                    # S3s that are not AWS's own do not know checksums in trailers. The signature of each request covers
                    # the sha256 of its body, which the server checks.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    def put(self, file: Path, key: str, progress: Progress = silent) -> str:
        with file.open("rb") as opened:
            content = _Beginning(opened, os.fstat(opened.fileno()).st_size)
            sha256 = content.sha256()
            with self._asking(key):
                self._upload(content, key, sha256, progress)
        return sha256

    def _upload(self, content: _Beginning, key: str, sha256: str, progress: Progress) -> None:
        about = {"Metadata": {SHA256: sha256}}
        try:
            self._client.upload_fileobj(
                content, **self._at(key), ExtraArgs=about, Callback=progress, Config=self._transfer
            )
        except ClientError as error:
            # The upload is complete, but the answer was lost: boto3 asked again, and by then there was no upload.
            if code(error) != "NoSuchUpload" or self.about(key).sha256 != sha256:
                raise

    def get(self, key: str, file: Path, sha256: str | None = None, progress: Progress = silent) -> None:
        about = self.about(key)
        wanted = sha256 or about.sha256
        if is_whole(file, about.size, wanted):
            progress(about.size)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        with temporary(part):
            if is_whole(file, about.size, wanted):  # another process fetched it while this one waited
                progress(about.size)
                return
            with part.open("wb") as target:
                with self._asking(key):
                    self._client.download_fileobj(
                        **self._at(key), Fileobj=target, Callback=progress, Config=self._transfer
                    )
                target.flush()
                os.fsync(target.fileno())
            try:
                check_digest(self._where(key), digest_of(part), wanted)
            except DamagedError:
                if self.about(key) != about:
                    raise replaced(self._where(key)) from None
                raise
            os.replace(part, file)

    def write(self, key: str, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        with self._asking(key):
            self._client.put_object(**self._at(key), Body=content, Metadata={SHA256: sha256})

    def create(self, key: str, content: bytes) -> bool:
        about = {SHA256: hashlib.sha256(content).hexdigest(), WRITER: uuid.uuid4().hex}
        request = {**self._at(key), "Body": content, "Metadata": about}
        with self._asking(key):
            try:
                self._client.put_object(**request, IfNoneMatch="*")
            except ClientError as error:
                if code(error) == "NotImplemented":
                    return self._create_without_condition(key, request)
                if code(error) not in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
                    raise
                return self._wrote(key, about[WRITER])
        return True

    def _create_without_condition(self, key: str, request: dict[str, Any]) -> bool:
        try:
            self.about(key)
            return False
        except NotThereError:
            self._client.put_object(**request)
            return True

    def _wrote(self, key: str, writer: str) -> bool:
        """Whether the object is the one that this writer put: boto3 asks again if the first answer is lost."""
        with self._asking(key):
            return bool(self._client.head_object(**self._at(key))["Metadata"].get(WRITER) == writer)

    def read(self, key: str) -> bytes:
        with self._looking_for(key):
            content, sha256 = self._read(key)
        check_digest(self._where(key), hashlib.sha256(content).hexdigest(), sha256)
        return content

    def _read(self, key: str) -> tuple[bytes, str | None]:
        """The bytes and the digest from one answer. If the answer breaks off, the request is sent again."""
        attempts = self._options.attempts
        while True:
            answer = self._client.get_object(**self._at(key))
            try:
                return answer["Body"].read(), answer["Metadata"].get(SHA256)
            except BROKEN_OFF:
                attempts -= 1
                if not attempts:
                    raise

    def about(self, key: str) -> About:
        with self._looking_for(key):
            answer = self._client.head_object(**self._at(key))
        return About(answer["ContentLength"], answer["Metadata"].get(SHA256), answer["LastModified"].timestamp())

    @contextmanager
    def _looking_for(self, key: str) -> Iterator[None]:
        """As `_asking`. Raises NoPlaceError if there is no bucket either: an answer without S3's own text, to a HEAD
        request or from another kind of server, does not say which of the two is missing."""
        try:
            with self._asking(key):
                yield
        except NotThereError as missing:
            try:
                with self._asking(""):
                    self._client.head_bucket(Bucket=self._name)
            except NotThereError:
                raise NoPlaceError(f"there is no bucket {self._name}") from None
            raise missing from None

    def digest(self, key: str, progress: Progress = silent) -> str:
        content = hashlib.sha256()
        with self._looking_for(key):
            for chunk in self._stream(key):
                content.update(chunk)
                progress(len(chunk))
        return content.hexdigest()

    def _stream(self, key: str) -> Iterator[bytes]:
        """The bytes of an object in order. If an answer breaks off, the rest is asked for."""
        at, failures, etag = 0, 0, None
        while True:
            answer = self._client.get_object(**self._at(key), **({"Range": f"bytes={at}-"} if at else {}))
            if etag not in (None, answer["ETag"]):
                raise replaced(self._where(key))
            etag = answer["ETag"]
            try:
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    at, failures = at + len(chunk), 0
                    yield chunk
                return
            except BROKEN_OFF:
                failures += 1
                if failures >= self._options.attempts:
                    raise

    def listed(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        with self._asking(prefix):
            for page in self._pages(self._prefix + prefix):
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._prefix), found["Size"]

    def folders(self) -> Iterator[str]:
        with self._asking(""):
            for page in self._pages(self._prefix, Delimiter="/"):
                for found in page.get("CommonPrefixes", ()):
                    yield found["Prefix"].removeprefix(self._prefix).rstrip("/")

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        return iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix, **more))

    def delete(self, key: str) -> None:
        with self._asking(key):
            self._client.delete_object(**self._at(key))

    def _where(self, key: str) -> str:
        """A key as a person writes it."""
        return f"{self.url}/{key}".rstrip("/")

    def _at(self, key: str) -> dict[str, str]:
        """A key as boto3 takes it."""
        return {"Bucket": self._name, "Key": self._prefix + checked_key(key)}

    def _asking(self, key: str) -> AbstractContextManager[None]:
        """Raises errors of boto3 as StoreError."""
        return as_store_error(self._where(key), self._client.meta.endpoint_url)


class _Beginning:
    """The first `size` bytes of an open file, as a file. The file itself may grow: a log does while it is uploaded."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def sha256(self) -> str:
        digest = hashlib.sha256()
        while chunk := self.read(CHUNK):
            digest.update(chunk)
        self.seek(0)
        return digest.hexdigest()

    def read(self, amount: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if amount < 0 else min(amount, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            return self._file.seek(self._size + offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
