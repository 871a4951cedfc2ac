"""What a command changes in its own process before anything else: its words, and what libraries ask the system for."""

from __future__ import annotations

import os
import pwd
import sys

from pipelines.settings import word_without_credentials


def name_user() -> None:
    """Names what torch, Ray and MLflow ask for, to a user whom the system does not know, as in a container
    (`docker run --user 1234`): a user's name, and the cache as the home folder if there is none to write to. Processes
    that this one starts are told too."""
    try:
        pwd.getpwuid(os.getuid())
        return
    except KeyError:
        pass
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        os.environ["LOGNAME"] = f"user-{os.getuid()}"
    cache = os.environ.get("GANFLEET_CACHE")
    if cache and not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["HOME"] = os.path.abspath(cache)


def hide_passwords() -> None:
    """Starts the command again without the passwords in its words, which go to the environment: `ps` shows the words of
    a process, and Ray keeps those of each driver. Raises SettingsError."""
    words = [word_without_credentials(word) for word in sys.orig_argv]
    if words != sys.orig_argv:
        os.execv(sys.executable, [sys.executable, *words[1:]])
