"""The cache folder, which all runs of this machine share. What it holds can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$GANFLEET_CACHE`, by default ~/.cache/ganfleet."""
    return Path(os.environ.get("GANFLEET_CACHE") or Path.home() / ".cache" / "ganfleet")
