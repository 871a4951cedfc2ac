"""What a test needs of the machine that starts daemons or hosts of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable


def path() -> str:
    """Where programs are found, those too that only root calls."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing(programs: Iterable[str], packages: str, what: str) -> str:
    """Why they cannot be had here; nothing if they can. `packages`: of Debian, with the programs. `what` needs root."""
    absent = [name for name in programs if shutil.which(name, path=path()) is None]
    if absent:
        return f"{', '.join(absent)} not installed ({packages})"
    return "" if os.geteuid() == 0 else f"{what} root"
