"""A data set of the user's own: what `package.module:name`, or an entry point of `ganfleet.datasets`, names."""

from __future__ import annotations

import inspect
from typing import Any

from gan_core.settings import SettingsError, imported, installed, raised


def find_own(name: str) -> Any:
    """The function or object that has the name, imported but not called. Raises SettingsError."""
    return imported("data.name", installed("datasets").get(name, name))


def own_data(name: str) -> Any:
    """The images that the function returns, or the object itself if it is none: see `gan_core.data.loading.load_given`.

    Raises SettingsError, with the name, if it cannot be imported or called, or if it raises.
    """
    found = find_own(name)
    if not callable(found):
        return found
    setting = f"data.name={name}"
    needed = _needed(found)
    if needed:
        raise SettingsError(
            f"{setting} needs arguments: {', '.join(needed)}", nearest="a function without any, or with defaults"
        )
    try:
        return found()
    except SettingsError as error:
        raise SettingsError(f"{setting}: {error}") from error
    except Exception as error:  # a user's function may raise anything
        raise SettingsError(f"{setting} raises {raised(error)}") from error


def _needed(function: Any) -> list[str]:
    """The parameters that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # of a function that is not Python's
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in kinds]
