"""Where runs are kept and tracked, and what packs are fetched from: the settings of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from gan_core.settings import Settings, SettingsError


class Tracking(Settings):
    """Where MLflow keeps runs."""

    uri: str | None = None
    """null: `sqlite:///<storage.path>/mlflow.db`."""


class Storage(Settings):
    """Where runs, checkpoints and pictures are kept."""

    path: Path = Path("runs")
    endpoint_url: str | None = None
    """Of an S3 that is not AWS's own; null: as AWS's environment variables and profiles have it."""
    cache_gb: Annotated[float, Field(ge=0.001)] = 50.0
    """What fetched packs may take of this machine's disk, in 1e9 bytes; those used least recently make room."""

    @field_validator("endpoint_url")
    @classmethod
    def _an_address(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
            right = f"http://{url.rpartition('://')[2]}"
            raise SettingsError(f"storage.endpoint_url={url} is no address; nearest: storage.endpoint_url={right}")
        return url

    @property
    def argument(self) -> str:
        """What a further command needs to find it: nothing if it is where the default is."""
        return "" if self.path.resolve() == Path("runs").resolve() else f" storage.path={self.path}"
