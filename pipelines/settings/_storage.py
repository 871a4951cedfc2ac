"""`tracking` and `storage`: where runs are tracked and kept, and how S3 is reached."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from gan_core.files import cache_folder
from gan_core.settings import Settings, SettingsError
from infra.passwords import bare, masked, remember
from pipelines.settings._credentials import without_credentials


class Tracking(Settings):
    """Where MLflow keeps runs."""

    uri: str | None = None
    """MLflow's server (`http://HOST:PORT`) or SQLite file (`sqlite:////FOLDER/mlflow.db`); null:
    `sqlite:///<storage.path>/mlflow.db`, where that is a folder."""

    @field_validator("uri")
    @classmethod
    def _can_be_shared(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        if re.match(r"https?://\S+$", uri):
            uri = without_credentials("tracking.uri", uri)
        if re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?|sqlite:////[^?]+", uri):
            return uri
        remember(f"tracking.uri={uri}")
        why, right = _sharable(uri)
        raise SettingsError(f"tracking.uri={_shown(uri)} {why}", nearest=f"tracking.uri={right}")

    @property
    def server(self) -> bool:
        """Whether `uri` is the address of an MLflow server."""
        return self.uri is not None and self.uri.startswith("http")


def _sharable(uri: str) -> tuple[str, str]:
    """Why workers cannot track there, and the nearest URI where all of them can."""
    server, file = "http://HOST:PORT", "sqlite:////FOLDER/mlflow.db"
    if re.match(r"https?://[^\s/?#]+\S*[?#]", uri):
        right = f"{re.split('[?#]', uri)[0]}, with a token in MLFLOW_TRACKING_TOKEN"
        return "has a query, which MLflow's client cannot send", right
    scheme, _, rest = bare(uri).rpartition(":/")
    if scheme.lower() in ("http", "https") or re.fullmatch(r"[\w.-]+:\d+(/\S*)?", uri):
        host = rest.lstrip("/") if re.fullmatch(r"/*[^/\s]\S*", rest) else "HOST:PORT"
        return "is no address", f"{scheme.lower() or 'http'}://{host}"
    if uri.startswith("sqlite:"):
        path = uri.removeprefix("sqlite:///")
        if path in ("", ":memory:", uri) or "?" in path:
            return "names no file", file
        return "is relative, and each worker has its own folder", f"sqlite:///{Path(path).absolute()}"
    if re.match(r"(postgresql|mysql|mssql)\b", uri):
        return "has no folder for the runs' files", f"{server} of an MLflow server before it, or tracking.uri={file}"
    return "is no store that all workers share", f"{server}, or tracking.uri={file}"


def _shown(uri: str) -> str:
    """The URI without what may be a secret, also where it is no proper address."""
    without_user = re.sub(r"^(\w[\w+.-]*:/{1,3})?.*@", r"\1***@", uri, flags=re.DOTALL)
    return masked(re.sub(r"^(https?:[^?#]*)[?#].*", r"\1?***", without_user))


class Storage(Settings):
    """Where runs, with their checkpoints and pictures, are kept."""

    path: Path | str = Path("runs")
    """Folder of runs, which all nodes must see, or `s3://bucket/prefix`, which needs a `tracking.uri`."""
    endpoint_url: str | None = None
    """Address of an S3 store that is not AWS's; null: what AWS's environment variables and profiles say."""
    cache_gb: Annotated[float, Field(ge=0.001)] = 50.0
    """Disk space for fetched packs on each machine, in 1e9 bytes; the least recently used are deleted beyond it."""

    @field_validator("path", mode="before")
    @classmethod
    def _from_anywhere(cls, path: Any) -> Any:
        if not isinstance(path, str) or not re.match(r"(?i)s3:|[a-z0-9+.-]+://", path):
            return Path(path) if isinstance(path, str) else path
        if not re.fullmatch(r"s3://[^/\s]+(/.*)?", path):
            right = path.partition(":")[2].strip("/") or "bucket/prefix"
            raise SettingsError(f"storage.path={path} is no place", nearest=f"storage.path=s3://{right}")
        return path.rstrip("/")

    @field_validator("endpoint_url")
    @classmethod
    def _an_address(cls, url: str | None) -> str | None:
        url = None if url is None else without_credentials("storage.endpoint_url", url)
        if url is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
            right = f"http://{url.rpartition('://')[2]}"
            raise SettingsError(f"storage.endpoint_url={url} is no address", nearest=f"storage.endpoint_url={right}")
        return url

    @property
    def remote(self) -> bool:
        """Whether runs are kept in S3."""
        return isinstance(self.path, str)

    @property
    def folder(self) -> Path:
        """The absolute local folder of the runs; for runs in S3, of their local copies."""
        if isinstance(self.path, Path):
            return self.path.resolve()
        address = f"{self.endpoint_url or os.environ.get('AWS_ENDPOINT_URL', '')} {self.path}"
        return cache_folder().absolute() / "runs" / hashlib.sha256(address.encode()).hexdigest()[:16]

    @property
    def assignments(self) -> list[str]:
        """The settings with which another command finds the same storage, from any folder."""
        if not self.remote:
            return [f"storage.path={self.folder}"]
        endpoint = [] if self.endpoint_url is None else [f"storage.endpoint_url={self.endpoint_url}"]
        return [f"storage.path={self.path}", *endpoint]

    @property
    def command_suffix(self) -> str:
        """`assignments`, each after a blank and quoted for a shell, to follow a command; empty if the default is the
        same storage."""
        if self.remote:
            return "".join(f" {shlex.quote(word)}" for word in self.assignments)
        return "" if self.folder == Path("runs").resolve() else f" {shlex.quote(f'storage.path={self.path}')}"

    @property
    def location(self) -> str:
        """The absolute folder, or the S3 address, as messages name it."""
        return str(self.path) if self.remote else str(self.folder)
