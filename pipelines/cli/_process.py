"""What a command changes in its own process before anything else: its words, and what libraries ask the system for."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from pipelines.settings import word_without_credentials


def name_user() -> None:
    """Names what torch, Ray and MLflow ask for, for this process and those that it starts: a user's name if the system
    knows none, and the cache as the home folder if there is none. In a container (`docker run --user 1234`) neither
    may be there."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        cache = os.environ.get("GANFLEET_CACHE")
        if cache:
            os.environ["HOME"] = os.path.abspath(cache)


def hide_passwords() -> None:
    """Starts the command again without the passwords in its words, which go to the environment: `ps` shows the words of
    a process, and Ray keeps those of each driver. Raises SettingsError."""
    words = [word_without_credentials(word) for word in sys.orig_argv]
    if words != sys.orig_argv:
        os.execv(sys.executable, [sys.executable, *words[1:]])
