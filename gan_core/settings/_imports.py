"""What a user names by `package.module:Name`, or hands over in Python as an object."""

from __future__ import annotations

import importlib
import inspect
import linecache
import os
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_core.settings._nearest import nearest
from gan_core.settings._tree import SettingsError

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*")
"""`package.module:Name`, which Python can import."""


@dataclass(frozen=True)
class Kept:
    """An object that Python cannot import everywhere: of a notebook, of a script, or without a name of its own."""

    value: Any
    source: bytes | None
    """The source that it was made from; None if that is not known."""


_kept: dict[str, Kept] = {}


@cache
def installed(group: str) -> dict[str, str]:
    """What installed packages add to ganfleet by name: `package.module:Name` of their entry points of a group, which is
    `families`, `nets` or `datasets`. Imports none of them."""
    return {point.name: point.value for point in entry_points(group=f"ganfleet.{group}")}


def imported(setting: str, path: str) -> Any:
    """What `package.module:Name` names. The working directory is looked in after all of Python's own places.

    Raises SettingsError, with `setting=path` and what is missing.
    """
    if path in _kept:
        return _kept[path].value
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = _attribute(importlib.import_module(module_name), name)
    except Exception as error:  # a user's module may raise anything
        raise SettingsError(f"{setting}={path}: {_why_not(module_name, name, error)}") from None
    return found


def place_of(value: object) -> str:
    """How settings name an object: the place where Python finds it; else a new name, by which this process and those
    that it sends settings to find it."""
    for path, kept in _kept.items():
        if kept.value is value:
            return path
    module, name = _home(value)
    if _there(module, name) is value:
        return f"{module}:{name}"
    word = re.sub(r"\W", "", name.rpartition(".")[2])
    path = f"{module}:{word}_{uuid.uuid4().hex[:8]}"
    _kept[path] = Kept(value, source_of(path, value))
    return path


def kept_in(values: Any) -> dict[str, Kept]:
    """The objects that the words of a tree of settings name and that another process cannot import."""
    found = {path: _kept[path] for path in _words(values) if path in _kept}
    for path in _words(values):
        module, _, name = path.partition(":")
        if module == "__main__" and path not in found and (value := _there(module, name)) is not None:
            found[path] = Kept(value, source_of(path, value))
    return found


def keep(objects: dict[str, Kept]) -> None:
    """Makes the objects of another process known in this one."""
    for path, kept in objects.items():
        module, _, name = path.partition(":")
        if _there(module, name) is not kept.value:
            _kept[path] = kept


def source_of(path: str, value: object) -> bytes | None:
    """The source that an object was made from: of its module's file, or of its cell in a notebook; None if it is not
    known."""
    if path in _kept:
        return _kept[path].source
    file = getattr(sys.modules.get(path.partition(":")[0]), "__file__", None)
    if file is not None:
        with suppress(OSError):
            return Path(file).read_bytes()
    lines = {code.co_filename: linecache.getlines(code.co_filename) for code in _codes(value)}
    text = "".join(line for name in sorted(lines, key=lambda name: lines[name]) for line in lines[name])
    return text.encode() or None


def _codes(value: object) -> list[Any]:
    """The code of a function, or of the functions of a class or of an object's class."""
    if inspect.isfunction(value):
        return [value.__code__]
    owner = value if isinstance(value, type) else type(value)
    functions = [getattr(member, "__func__", member) for member in vars(owner).values()]
    own = [one for one in functions if inspect.isfunction(one) and one.__module__ == owner.__module__]
    return [function.__code__ for function in own]


def _home(value: object) -> tuple[str, str]:
    """The module and the name that an object has, or would have."""
    if isinstance(value, ModuleType):
        parent, _, name = value.__name__.rpartition(".")
        return parent or name, name
    if isinstance(value, type) or inspect.isroutine(value):
        return str(value.__module__), str(value.__qualname__)
    module = type(value).__module__
    names = [name for name, one in vars(sys.modules[module]).items() if one is value and not name.startswith("_")]
    return module, next(iter(names), type(value).__name__)


def _there(module: str, name: str) -> Any:
    """What a module that is loaded has by that name; None if it has no such thing."""
    with suppress(AttributeError, KeyError):
        return _attribute(sys.modules[module], name)
    return None


def _attribute(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _words(values: Any) -> Iterator[str]:
    if isinstance(values, str) and IMPORT_PATH.fullmatch(values):
        yield values
    elif isinstance(values, dict | list | tuple):
        for one in values.values() if isinstance(values, dict) else values:
            yield from _words(one)


def _why_not(module: str, name: str, error: Exception) -> str:
    """Why `module:name` cannot be imported, and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return f"Python finds no module '{error.name}' here; nearest: install it, or set PYTHONPATH to its folder"
    if re.search(r"_[0-9a-f]{8}$", name):
        return "it was handed over as an object, in a process that has ended; nearest: an object that a module names"
    if isinstance(error, AttributeError) and module == "__main__":
        return f"this program defines no '{name}'; nearest: define it here first, or name the module that has it"
    if isinstance(error, AttributeError) and module in sys.modules and f"'{name.partition('.')[0]}'" in str(error):
        right = nearest(name, [one for one in vars(sys.modules[module]) if not one.startswith("_")])
        return f"{module} has no '{name}'; nearest: {right}"
    said = " ".join(str(error).split())[:200]
    return f"importing {module} raises {type(error).__name__}: {said}"
