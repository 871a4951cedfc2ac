"""Frozen settings: `override("family.lr=1e-4")`, YAML in and out, errors that name the nearest right value.

Nothing here imports torch, so that a typing mistake is reported in a fraction of a second.
"""

from gan_core.settings._imports import IMPORT_PATH, imported, installed, keep, kept_in, place_of, source_of
from gan_core.settings._nearest import nearest, nearest_key, similar, similar_file, unknown
from gan_core.settings._raised import place, raised
from gan_core.settings._tree import Settings, SettingsError, Written, assign, by_path, parse_settings, parse_yaml, paths

__all__ = [
    "IMPORT_PATH",
    "Settings",
    "SettingsError",
    "Written",
    "assign",
    "by_path",
    "imported",
    "installed",
    "keep",
    "kept_in",
    "nearest",
    "nearest_key",
    "parse_settings",
    "parse_yaml",
    "paths",
    "place",
    "place_of",
    "raised",
    "similar",
    "similar_file",
    "source_of",
    "unknown",
]
