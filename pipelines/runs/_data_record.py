"""What a run's data are, as they were when the run began: a run is resumed on the same data only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.files import file_digest
from gan_core.settings import SettingsError
from infra.files import write_atomic
from pipelines.runs._folder import RunFolder
from pipelines.runs._paths import RunPaths
from pipelines.settings import as_settings_error

if TYPE_CHECKING:
    from gan_core.data.dataset import Dataset

_SHOWN_NAMES = 12
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class DataRecord:
    """The content of `data.json`. Where the files lie does not matter."""

    digest: str
    """sha256 of the train set, as the game sees it (`Dataset.digest`)."""
    images: int
    """Of the train set."""
    held_out: int
    shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of each file that a setting of `metrics` names, by the setting."""

    @staticmethod
    def of(dataset: Dataset, files: Mapping[str, Path | None]) -> DataRecord:
        """The record of a loaded dataset. Raises SettingsError if a file cannot be read."""
        held_out = 0 if dataset.held_out is None else len(dataset.held_out)
        digests = {setting: _sha256(setting, file) for setting, file in files.items() if file is not None}
        about = (dataset.digest(), len(dataset.images), held_out, dataset.shape, dataset.classes)
        return DataRecord(*about, dataset.class_names, digests)

    @staticmethod
    def read(folder: RunPaths) -> DataRecord | None:
        """The record of a run's folder; None if the run began before there were records. Raises SettingsError."""
        try:
            values = json.loads(folder.data.read_bytes())
            lists = {name: tuple(values[name]) for name in ("shape", "class_names")}
            return DataRecord(**{**values, **lists})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise SettingsError(f"{folder.data} is damaged: {error}", nearest=f"rm {folder.data}") from None

    def changes(self, now: DataRecord) -> list[str]:
        """What differs in `now`, each as `WHAT OLD -> NEW`; empty if the data are the same."""
        found = [
            f"{name} {before} -> {after}"
            for name, before, after in (
                ("images", self.images, now.images),
                ("held-out images", self.held_out, now.held_out),
                ("shape", _by(self.shape), _by(now.shape)),
                ("classes", self.classes, now.classes),
            )
            if before != after
        ]
        if self.class_names and now.class_names and self.class_names != now.class_names:
            found.append(f"classes {named_classes(self.class_names)} -> {named_classes(now.class_names)}")
        if self.digest != now.digest:
            found.append(f"digest {self.digest[:_SHOWN_DIGITS]} -> {now.digest[:_SHOWN_DIGITS]}")
        for setting in sorted({*self.files, *now.files}):
            before, after = (files.get(setting, "none")[:_SHOWN_DIGITS] for files in (self.files, now.files))
            if before != after:
                found.append(f"{setting} {before} -> {after}")
        return found

    def keep(self, folder: RunFolder, name: str, anew: Callable[[], str]) -> None:
        """Writes the record to a run's folder, or compares it with the one that is there.

        `name`: the setting that names the data; `anew`: says how to begin with other data. Raises SettingsError if the
        data are others than the run began with.
        """
        before = DataRecord.read(folder)
        if before is None:
            write_atomic(folder.data, json.dumps(asdict(self), indent=1).encode())
            folder.upload(folder.data)
            return
        changed = before.changes(self)
        if changed:
            raise SettingsError(
                f"{name}: '{folder.path.name}' began with other data: {', '.join(changed)}",
                nearest=f"the data of before, or {anew()}",
            )

    def __str__(self) -> str:
        kind = "images" if len(self.shape) == 3 else "points"
        held_out = f" and {self.held_out} held out" if self.held_out else ""
        names = f" in {self.classes} classes: {named_classes(self.class_names)}" if self.class_names else ""
        return f"{self.images} {kind} of {_by(self.shape)}{held_out}{names}"

    @property
    def tags(self) -> dict[str, str]:
        """Tags for MLflow."""
        names = {"classes": named_classes(self.class_names)} if self.class_names else {}
        about = {"digest": self.digest[:16], "images": str(self.images), **names}
        return {f"ganfleet.data.{name}": value for name, value in about.items()}


_FID = "ganfleet.fid."


def keep_measure(folder: RunFolder, tags: Mapping[str, str]) -> None:
    """Writes to a run's folder what its FIDs are measured with, from the tags that MLflow gets."""
    about = {name.removeprefix(_FID): value for name, value in tags.items() if name.startswith(_FID)}
    if about != measured_with(folder):
        write_atomic(folder.measure, json.dumps(about, indent=1).encode())
        folder.upload(folder.measure)


def refresh_records(folder: RunFolder) -> None:
    """Brings what is recorded of a run or search to this machine's copy, if S3 keeps it. Raises SettingsError."""
    with as_settings_error(f"storage.path={folder.home}"):
        for file in (folder.identity, folder.data, folder.measure, folder.best.with_suffix(".json")):
            folder.refresh_file(file)


def measured_with(folder: RunPaths) -> dict[str, str]:
    """What `keep_measure` wrote; empty if the run began before there was such a file."""
    try:
        return dict(json.loads(folder.measure.read_bytes()))
    except FileNotFoundError:
        return {}


def named_classes(names: Sequence[str]) -> str:
    """The names in their order; of many, the first and the last."""
    if len(names) <= _SHOWN_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN_NAMES - 2])}, ..., {names[-1]}"


def _by(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


def _sha256(setting: str, file: Path) -> str:
    try:
        return file_digest(file)
    except OSError as error:
        raise SettingsError(f"{setting}={file}: {error.strerror}") from None
