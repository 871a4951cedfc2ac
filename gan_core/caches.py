"""Where what can be made or fetched again lies, of all runs of this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$GANFLEET_CACHE`, or ~/.cache/ganfleet."""
    return Path(os.environ.get("GANFLEET_CACHE") or Path.home() / ".cache" / "ganfleet")
