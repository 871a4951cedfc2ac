"""The user of this process. In a container (`docker run --user 1234`) it may have no name and no home folder."""

from __future__ import annotations

import getpass
import os
from pathlib import Path


def name_user(home: str | None) -> None:
    """Names what torch, Ray and MLflow ask for, for this process and those that it starts: a user's name if the system
    knows none, and `home`, if given, where there is no home folder."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        if home is not None:
            os.environ["HOME"] = os.path.abspath(home)
