"""Measures a checkpoint or folders of images: for the command `evaluate`, and for the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from gan_core.settings import SettingsError
from pipelines import interrupts
from pipelines.evaluate.targets import Measurement, as_trained, packs_of


def measured(
    wanted: Measurement,
    console: Console,
    bootstrap: bool = False,
    statistics: Path | None = None,
    *,
    by_class: bool = False,
    curve: tuple[Path, Path] | None = None,
) -> dict[str, Any]:
    """The measures, and what they were measured with. `statistics`, `curve`: where to write those of the real images,
    and the curve of precision against recall. Raises SettingsError."""
    with interrupts.deferred():
        from pipelines.evaluate.command import (
            EvaluateOptions,
            evaluate_checkpoint,
            evaluate_images,
            write_folder_statistics,
        )

    targets, settings, saved = wanted.targets, wanted.settings, wanted.saved
    packs = settings.storage if saved is None else packs_of(saved, settings.storage)
    options = EvaluateOptions(settings.storage.folder, console, bootstrap, statistics, packs, by_class, curve)
    try:
        if saved is not None:
            return evaluate_checkpoint(saved, as_trained(saved, wanted.assignments), options)
        if len(targets) == 2:
            return evaluate_images(Path(targets[0]), Path(targets[1]), settings.metrics, options)
        return write_folder_statistics(Path(targets[0]), settings.metrics, options)
    except ValueError as error:  # the images, weights or statistics it was given are wrong
        raise SettingsError(str(error)) from None
