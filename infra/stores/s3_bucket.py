"""A bucket that boto3 talks to: what every kind of transfer needs of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import boto3
from botocore.client import Config

from infra.stores.protocol import CHUNK, About, NoPlaceError, NotThereError, StoreError, StoreOptions, checked_key
from infra.stores.s3_errors import BROKEN_OFF, told

SHA256 = "sha256"
"""The object's metadata that holds its digest."""

CONNECT_SECONDS, READ_SECONDS = 5, 60
_PAUSE, _LONGEST_PAUSE = 0.2, 20.0
"""Seconds, before an answer that broke off is asked for again."""


class Bucket:
    """What is below a prefix of a bucket. Every call raises StoreError."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._name, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if not self._name:
            raise StoreError(f"{url} names no bucket: s3://bucket/prefix")
        self._prefix = f"{prefix}/" if prefix else ""
        self.url = f"s3://{self._name}/{self._prefix}".rstrip("/")
        self.options = options

    @cached_property
    def client(self) -> Any:
        """boto3's, usable by all threads."""
        with told(self.url, "AWS"):
            return boto3.session.Session().client(
                "s3",
                endpoint_url=self.options.endpoint_url,
                config=Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": self.options.attempts},
                    max_pool_connections=4 * self.options.threads,
                    # Checksums as trailers are unknown to S3s that are not AWS's own: each piece has its MD5.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    def where(self, key: str) -> str:
        """A key as a person writes it."""
        return f"{self.url}/{key}".rstrip("/")

    def at(self, key: str) -> dict[str, str]:
        """A key as boto3 takes it."""
        return {"Bucket": self._name, "Key": self._prefix + checked_key(key)}

    def asking(self, key: str) -> AbstractContextManager[None]:
        """Raises what boto3 raises inside as StoreError."""
        return told(self.where(key), self.client.meta.endpoint_url)

    def head(self, key: str) -> tuple[About, str]:
        """What is known of a key, and the mark of its present content."""
        try:
            with self.asking(key):
                answer = self.client.head_object(**self.at(key))
        except NotThereError as error:
            self._check_bucket()  # an answer to HEAD has no body that says what is missing
            raise error from None
        sha256, modified = answer.get("Metadata", {}).get(SHA256), answer["LastModified"].timestamp()
        return About(answer["ContentLength"], sha256, modified), answer["ETag"]

    def _check_bucket(self) -> None:
        try:
            with self.asking(""):
                self.client.head_bucket(Bucket=self._name)
        except NotThereError:
            raise NoPlaceError(f"there is no bucket {self._name}") from None

    def stream(self, key: str, etag: str, at: int, stop: int) -> Iterator[bytes]:
        """The bytes from `at` to before `stop`; where an answer breaks off, the rest is asked for again."""
        failures = 0
        while at < stop:
            try:
                answer = self.client.get_object(**self.at(key), Range=f"bytes={at}-{stop - 1}")
                if answer["ETag"] != etag:
                    raise StoreError(f"{self.where(key)} was replaced while it was read; once more")
                for content in answer["Body"].iter_chunks(CHUNK):
                    at, failures = at + len(content), 0
                    yield content
            except BROKEN_OFF:
                failures += 1
                if failures >= self.options.attempts:
                    raise
                time.sleep(min(_PAUSE * 2**failures, _LONGEST_PAUSE) * random.uniform(0.5, 1))

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that begin with `prefix`, and their sizes."""
        with self.asking(prefix):
            for page in self._pages(self._prefix + prefix):
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._prefix), found["Size"]

    def folders(self) -> Iterator[str]:
        """The first parts of the keys that have several."""
        with self.asking(""):
            for page in self._pages(self._prefix, Delimiter="/"):
                for found in page.get("CommonPrefixes", ()):
                    yield found["Prefix"].removeprefix(self._prefix).rstrip("/")

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        return iter(self.client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix, **more))
