"""What `--config` names: a YAML file of the user's, or a preset, a named experiment that ganfleet ships."""

from __future__ import annotations

from pathlib import Path

from gan_core.settings import SettingsError, nearest

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
        names = _names_near(config)
        wrong = "no such file or preset" if isinstance(error, FileNotFoundError) else error.strerror
        raise SettingsError(
            f"--config {config}: {wrong}", nearest=nearest(config.name, names) if names else "none"
        ) from None


def _names_near(config: Path) -> list[str]:
    """The YAML files of the folder that `config` names, and the presets if it names no folder."""
    files = [path.name for path in config.parent.glob("*.y*ml")] if config.parent.is_dir() else []
    return files + (preset_names() if config.name == str(config) else [])
