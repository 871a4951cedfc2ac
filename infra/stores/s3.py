"""S3 through boto3: pieces in parallel, gone on with after a cut, digests checked.

Endpoint, region, addressing and credentials come from AWS's usual environment variables and profiles. Nothing relies
on conditional requests, which not every S3 has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from infra.stores.partial import Partial, partial
from infra.stores.protocol import About, DamagedError, Progress, StoreOptions, check_digest, digest_of, is_whole, silent
from infra.stores.s3_bucket import Bucket
from infra.stores.s3_upload import Pieces, put_bytes
from infra.threads import each


class S3Store:
    """What is below a prefix of a bucket. An object's digest is in its metadata."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._bucket = Bucket(url, options)

    @property
    def url(self) -> str:
        return self._bucket.url

    def put(self, file: Path, key: str, progress: Progress = silent) -> str:
        size = file.stat().st_size
        if size > self._bucket.options.piece:
            sha256 = digest_of(file, size=size)  # so much of it alone: a log may grow meanwhile
            Pieces(self._bucket, key, file, size, sha256, progress).upload()
        else:
            content = file.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            put_bytes(self._bucket, key, content, sha256)
            progress(len(content))
        return sha256

    def get(self, key: str, file: Path, sha256: str | None = None, progress: Progress = silent) -> None:
        about, etag = self._bucket.head(key)
        wanted = sha256 or about.sha256
        if is_whole(file, about.size, wanted):
            progress(about.size)
            return
        with partial(file, f"{self._bucket.where(key)}/{etag}", about.size, self._bucket.options.piece) as part:
            if is_whole(file, about.size, wanted):  # another process has brought it meanwhile
                part.discard()
                progress(about.size)
                return
            resumed = self._fill(part, key, etag, about, progress)
            try:
                check_digest(self._bucket.where(key), digest_of(part.path), wanted)
            except DamagedError:
                part.discard()
                if not resumed:
                    raise
            else:
                part.become(file)
                return
        self.get(key, file, sha256)  # what an earlier process had brought was wrong

    def _fill(self, part: Partial, key: str, etag: str, about: About, progress: Progress) -> bool:
        """Brings all that is missing. Returns whether some of it was there."""
        missing = part.missing()
        there = about.size - sum(stop - start for start, stop in missing)
        if there:
            progress(there)

        def bring(piece: tuple[int, int]) -> None:
            at = piece[0]
            for content in self._bucket.stream(key, etag, *piece):
                part.write(at, content)
                at += len(content)
                progress(len(content))
            part.finished(piece[0])

        with self._bucket.asking(key):
            each(bring, missing, self._bucket.options.threads)
        return there > 0

    def write(self, key: str, content: bytes) -> None:
        put_bytes(self._bucket, key, content, hashlib.sha256(content).hexdigest())

    def read(self, key: str) -> bytes:
        about, etag = self._bucket.head(key)
        with self._bucket.asking(key):
            content = b"".join(self._bucket.stream(key, etag, 0, about.size))
        check_digest(self._bucket.where(key), hashlib.sha256(content).hexdigest(), about.sha256)
        return content

    def about(self, key: str) -> About:
        return self._bucket.head(key)[0]

    def digest(self, key: str, progress: Progress = silent) -> str:
        about, etag = self._bucket.head(key)
        content = hashlib.sha256()
        with self._bucket.asking(key):
            for chunk in self._bucket.stream(key, etag, 0, about.size):
                content.update(chunk)
                progress(len(chunk))
        return content.hexdigest()

    def listed(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        return self._bucket.listed(prefix)

    def folders(self) -> Iterator[str]:
        return self._bucket.folders()

    def delete(self, key: str) -> None:
        with self._bucket.asking(key):
            self._bucket.client.delete_object(**self._bucket.at(key))
