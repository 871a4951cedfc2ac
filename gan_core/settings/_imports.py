"""What a user names by `package.module:Name`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from gan_core.settings._nearest import nearest
from gan_core.settings._tree import SettingsError

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*")
"""`package.module:Name`, which Python can import."""


@cache
def installed(group: str) -> dict[str, str]:
    """What installed packages add to ganfleet by name: `package.module:Name` of their entry points of a group, which is
    `families`, `nets` or `datasets`. Imports none of them."""
    return {point.name: point.value for point in entry_points(group=f"ganfleet.{group}")}


def imported(setting: str, path: str) -> Any:
    """What `package.module:Name` names. The working directory is looked in after all of Python's own places.

    Raises SettingsError, with `setting=path` and what is missing.
    """
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a user's module may raise anything
        raise SettingsError(f"{setting}={path}: {_why_not(module_name, name, error)}") from None
    return found


def _why_not(module: str, name: str, error: Exception) -> str:
    """Why `module:name` cannot be imported, and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return f"Python finds no module '{error.name}' here; nearest: install it, or set PYTHONPATH to its folder"
    if isinstance(error, AttributeError) and module in sys.modules and f"'{name.partition('.')[0]}'" in str(error):
        right = nearest(name, [one for one in vars(sys.modules[module]) if not one.startswith("_")])
        return f"{module} has no '{name}'; nearest: {right}"
    said = " ".join(str(error).split())[:200]
    return f"importing {module} raises {type(error).__name__}: {said}"
