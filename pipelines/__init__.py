"""What a user runs: a package for each verb of the command line, and for each thing that a run keeps.

`from pipelines import train, search, evaluate, load` is the Python interface: the packages of these verbs can be
called. Importing this imports neither torch nor Ray."""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.library import Run, Search, evaluate, load, search, train
else:
    from pipelines import evaluate, search, train

__all__ = ["Run", "Search", "evaluate", "load", "search", "train"]


def _of_library(name: str) -> Any:
    return getattr(importlib.import_module("pipelines.library"), name)


class _Verb(ModuleType):
    """A package that can be called as the function of its name in `pipelines.library`."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        return _of_library(self._verb)(*given, **options)

    @property
    def _verb(self) -> str:
        return self.__name__.rpartition(".")[2]

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_of_library(self._verb))

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return str(_of_library(self._verb).__doc__)

    def __reduce__(self) -> tuple[Any, ...]:  # a notebook's function that calls it may be sent to another process
        return importlib.import_module, (self.__name__,)


for _name in ("evaluate", "search", "train"):
    sys.modules[f"{__name__}.{_name}"].__class__ = _Verb


def __getattr__(name: str) -> Any:
    if name in ("Run", "Search", "load"):
        return _of_library(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
