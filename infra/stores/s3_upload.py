"""A file in pieces to a bucket: whole in the end, or nothing of it is left there."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from botocore.exceptions import ClientError

from infra.stores.protocol import Progress
from infra.stores.s3_bucket import SHA256, Bucket
from infra.stores.s3_errors import BROKEN_OFF, code
from infra.stores.uploads import Notes, Upload
from infra.threads import each

MOST_PIECES = 10_000
FORGOTTEN = timedelta(days=1)
"""An upload to our key that was begun so long ago is nobody's: of another machine that died, or one whose first answer
was lost, so that nobody knows of it."""


def put_bytes(bucket: Bucket, key: str, content: bytes, sha256: str) -> None:
    """In one request, as a whole."""
    with bucket.asking(key):
        bucket.client.put_object(**bucket.at(key), Body=content, Metadata={SHA256: sha256}, ContentMD5=_md5(content))


def _md5(content: bytes) -> str:
    """What S3 compares the bytes of a request with."""
    return b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@dataclass(frozen=True)
class Pieces:
    """A file on its way to a key."""

    bucket: Bucket
    key: str
    file: Path
    size: int
    sha256: str
    progress: Progress
    parts: dict[int, str] = field(default_factory=dict)
    """Number, from 1, to ETag of the pieces that are there."""

    def upload(self) -> None:
        """Begins, or goes on with what a process that died left behind. If it fails, what there is is deleted; if
        even that fails, a note of it stays for the next time. Raises StoreError."""
        client, at = self.bucket.client, self.bucket.at(self.key)
        target = f"{client.meta.endpoint_url}/{at['Bucket']}/{at['Key']}"
        notes = Notes(self.bucket.options.uploads, target)
        with self.bucket.asking(self.key):
            upload = self._resumed(notes) or self._begun()
            with notes.kept(upload) as forget:
                try:
                    self._abort_forgotten(but=upload)
                    self._send(upload)
                except BaseException:
                    if self._aborted(upload):
                        forget()
                    raise
                forget()

    @cached_property
    def _piece(self) -> int:
        return max(self.bucket.options.piece, -(-self.size // MOST_PIECES))

    def _begun(self) -> Upload:
        begun = self.bucket.client.create_multipart_upload(**self.bucket.at(self.key), Metadata={SHA256: self.sha256})
        return Upload(begun["UploadId"], self.sha256, self._piece)

    def _resumed(self, notes: Notes) -> Upload | None:
        upload = notes.orphan(self.sha256, self._piece, self._aborted)
        if upload is None:
            return None
        try:
            pages = self.bucket.client.get_paginator("list_parts")
            for page in pages.paginate(**self._at(upload)):
                self.parts.update({part["PartNumber"]: part["ETag"] for part in page.get("Parts", ())})
        except ClientError:  # completed or aborted after all
            return None
        return upload

    def _length(self, number: int) -> int:
        return min(self._piece, self.size - (number - 1) * self._piece)

    def _send(self, upload: Upload) -> None:
        """The pieces that are missing, then one object of all."""
        if self.parts:
            self.progress(sum(self._length(number) for number in self.parts))
        numbers = range(1, -(-self.size // self._piece) + 1)
        missing = [number for number in numbers if number not in self.parts]
        each(lambda number: self._send_one(upload, number), missing, self.bucket.options.threads)
        listed = [{"PartNumber": number, "ETag": self.parts[number]} for number in numbers]
        try:
            self.bucket.client.complete_multipart_upload(**self._at(upload), MultipartUpload={"Parts": listed})
        except ClientError as error:
            # Asked again because the first answer was lost.
            if code(error) != "NoSuchUpload" or self.bucket.head(self.key)[0].sha256 != self.sha256:
                raise

    def _send_one(self, upload: Upload, number: int) -> None:
        with self.file.open("rb") as source:
            source.seek((number - 1) * self._piece)
            content = source.read(self._length(number))
        answer = self.bucket.client.upload_part(
            **self._at(upload), PartNumber=number, Body=content, ContentMD5=_md5(content)
        )
        self.parts[number] = answer["ETag"]
        self.progress(len(content))

    def _aborted(self, upload: Upload) -> bool:
        """Whether nothing of an upload is left."""
        try:
            self.bucket.client.abort_multipart_upload(**self._at(upload))
        except ClientError as error:
            return code(error) == "NoSuchUpload"
        except BROKEN_OFF:
            return False
        return True

    def _abort_forgotten(self, but: Upload) -> None:
        """Not everybody who may write may list: then they stay."""
        at = self.bucket.at(self.key)
        with suppress(ClientError):
            for page in self.bucket.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=at["Bucket"], Prefix=at["Key"]
            ):
                for one in page.get("Uploads", ()):
                    old = datetime.now(UTC) - one["Initiated"] >= FORGOTTEN
                    if old and one["Key"] == at["Key"] and one["UploadId"] != but.id:
                        self._aborted(Upload(one["UploadId"], "", 0))

    def _at(self, upload: Upload) -> dict[str, str]:
        return {**self.bucket.at(self.key), "UploadId": upload.id}
