"""What `--config` names: a YAML file of the user's, or a preset, a named experiment that ganfleet ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_core.experiment import DATA_NAMES
from gan_core.settings import IMPORT_PATH, SettingsError, installed, similar_file, unknown

PRESETS = Path(__file__).with_name("presets")


def preset_names() -> list[str]:
    """The presets: papers' settings, each with its source at the head of its file, and two searches, `demo` and
    `equal`."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_config(config: Path | None) -> str:
    """The YAML text of a file, else of the preset of that name; empty for None. Raises SettingsError with the nearest
    name."""
    if config is None:
        return ""
    if str(config) in preset_names() and not config.is_file():
        return (PRESETS / f"{config}.yaml").read_text()
    try:
        return config.read_text()
    except UnicodeDecodeError:
        raise SettingsError(f"--config {config} is no text", nearest="a YAML file") from None
    except OSError as error:
        wrong = "no such file or preset" if isinstance(error, FileNotFoundError) else error.strerror
        raise SettingsError(f"--config {config}: {wrong}", nearest=_nearest_config(config)) from None


def with_data_set(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A file's settings with those that its `data_sets` have for the data that are chosen, in the file or by an
    assignment `data.name=NAME`: `data_sets: {mnist: {budget: {rounds: 5000}}}`. Raises SettingsError."""
    found = {key: value for key, value in values.items() if key != "data_sets"}
    given = values.get("data_sets") or {}
    if not isinstance(given, dict) or not all(isinstance(one, dict) for one in given.values()):
        raise SettingsError(
            f"data_sets={given} are no settings by data set", "data_sets: {mnist: {budget: {rounds: 99}}}"
        )
    for one in given:
        if one not in DATA_NAMES and one not in installed("datasets") and not IMPORT_PATH.fullmatch(str(one)):
            raise SettingsError(unknown("data_sets", one, DATA_NAMES))
    typed = [word.partition("=")[2] for word in assignments if word.startswith("data.name=")]
    data = found.get("data")
    name = typed[-1] if typed else data.get("name") if isinstance(data, dict) else None
    return _merged(found, given.get(name, {}))


def _merged(values: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(values[key], one) if isinstance(one, dict) and isinstance(values.get(key), dict) else one
        for key, one in over.items()
    }
    return {**values, **both}


def _nearest_config(config: Path) -> str:
    """The settings of a run's folder, else a similar YAML file of the same folder or a similar preset, else all
    presets."""
    if (config / "experiment.yaml").is_file():
        return str(config / "experiment.yaml")
    files = {path.name: str(path) for path in config.parent.glob("*.y*ml")} if config.parent.is_dir() else {}
    presets = [name for name in preset_names() if config.name == str(config) or config.stem == name]
    found = similar_file(config.name, [*presets, *files])
    return f"a YAML file, or one of {', '.join(preset_names())}" if found is None else files.get(found, found)
