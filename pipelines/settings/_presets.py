"""What `--config` names: a YAML file of the user's, or a preset, a named experiment that comes with us."""

from __future__ import annotations

from pathlib import Path

from gan_core.settings import SettingsError, nearest

PRESETS = Path(__file__).with_name("presets")


def preset_names() -> list[str]:
    """The presets: the papers' settings, each with its source at the head of its file, and `demo`, a search."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_config(config: Path | None) -> str:
    """The YAML text of a file, else of the preset of that name; nothing for None. Raises SettingsError with the
    nearest name."""
    if config is None:
        return ""
    if str(config) in preset_names() and not config.is_file():
        return (PRESETS / f"{config}.yaml").read_text()
    try:
        return config.read_text()
    except UnicodeDecodeError:
        raise SettingsError(f"--config {config} is no text; nearest: a YAML file") from None
    except OSError as error:
        near = nearest(config.name, names) if (names := _names_near(config)) else "none"
        wrong = "no such file or preset" if isinstance(error, FileNotFoundError) else error.strerror
        raise SettingsError(f"--config {config}: {wrong}; nearest: {near}") from None


def _names_near(config: Path) -> list[str]:
    """The YAML files of the folder that it would lie in, and the presets if no folder is named."""
    files = [path.name for path in config.parent.glob("*.y*ml")] if config.parent.is_dir() else []
    return files + (preset_names() if config.name == str(config) else [])
