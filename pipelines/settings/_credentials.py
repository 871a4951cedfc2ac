"""Passwords in settings: an address gives them to the environment of this process, and no setting keeps them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from gan_core.settings import SettingsError
from infra.passwords import bare, credentials_of, has_secret, masked, remember

_VARIABLES = {
    "tracking.uri": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "storage.endpoint_url": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
}
"""Where the clients of MLflow and S3 look for what stands before the host of these addresses."""
_warned: set[str] = set()

_LOG = logging.getLogger(__name__)


def without_credentials(setting: str, url: str) -> str:
    """The URL without user and password, which go to this process's environment. Warns once. Raises SettingsError if
    there is a user only."""
    remember(f"{setting}={url}")
    found = credentials_of(url)
    if found is None:
        return url
    names = _VARIABLES[setting]
    if not found.password:
        raise SettingsError(f"{setting}={masked(url)} has a user and no password", nearest=f"{setting}={bare(url)}")
    if setting == "tracking.uri" or not {names[0], "AWS_PROFILE"} & os.environ.keys():
        os.environ.update(zip(names, found, strict=True))
    if setting not in _warned:
        _warned.add(setting)
        _LOG.warning(
            "warning: the password in %s is used now and written nowhere; give it by %s and %s, here, on other nodes"
            " and to --resume",
            setting,
            *names,
        )
    return bare(url)


def word_without_credentials(word: str) -> str:
    """The same for `key=value` on a command line."""
    key, equals, value = word.partition("=")
    return f"{key}={without_credentials(key, value)}" if equals and key in _VARIABLES else word


def check_no_secrets(settings: dict[str, Any]) -> None:
    """Raises SettingsError if a setting holds a password or key: settings are written to files, and shown."""
    for path, text in _texts(settings, ""):
        if has_secret(text):
            remember(text)
            raise SettingsError(
                f"{path}={masked(text)} holds a password or key, and settings are written to files",
                nearest=f"{path}={bare(text)}, with the keys in the environment",
            )


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(one, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one, path)
