"""What `ganfleet evaluate` measures, found and checked. Imports no torch, so that a mistake is reported at once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_core.measures import Metrics
from gan_core.settings import SettingsError, assign, parse_yaml, paths, similar_file
from pipelines.runs import RunPaths, find_checkpoint
from pipelines.settings import EvaluateSettings, Storage, check_files, check_functions, restricted_settings, split_words


@dataclass(frozen=True)
class Measurement:
    """What is to be measured: a checkpoint, or folders of images."""

    targets: Sequence[str]
    assignments: Sequence[str]
    settings: EvaluateSettings
    saved: Path | None
    """The checkpoint; None: the targets are folders of images."""

    @staticmethod
    def of(words: Sequence[str] | None, save_stats: str | None = None) -> Measurement:
        """Raises SettingsError for a target that is not there, and for settings that do not apply to it."""
        targets, assignments = split_words(words)
        settings = restricted_settings(EvaluateSettings, assignments, "storage", "metrics")
        check_files(settings.metrics)
        saved = checked_targets(targets, settings, save_stats)
        if saved is not None:
            check_functions(as_trained(saved, assignments))
        return Measurement(targets, assignments, settings, saved)


def checked_targets(targets: Sequence[str], settings: EvaluateSettings, save_stats: str | None) -> Path | None:
    """The checkpoint that the targets name, or None if they are folders of images. Raises SettingsError."""
    if len(targets) not in (1, 2):
        raise SettingsError(
            f"evaluate takes one or two targets, not {len(targets)}",
            nearest="evaluate RUN, or evaluate FAKE_FOLDER REAL_FOLDER",
        )
    images = os.path.isdir(targets[0]) and not _of_run(Path(targets[0]))
    if len(targets) == 1 and not (images and save_stats is not None):
        if images:
            raise SettingsError(
                f"{targets[0]} is a folder of images: against what?"
                f" nearest: evaluate {targets[0]} REAL_FOLDER|STATS.npz"
            )
        return find_checkpoint(targets[0], settings.storage)
    for name, value in settings.metrics.chosen().items():  # all images of both folders are measured
        if name in ("samples", "reference_samples", "statistics", "async", "measures"):
            raise SettingsError(f"metrics.{name}={value} has no meaning for folders of images", nearest="leave it out")
    for target in targets:
        if _of_run(Path(target)):
            raise SettingsError(f"{target} is a run, no folder of images", nearest=f"evaluate {target}")
        if not os.path.isdir(target) and not (target == targets[-1] and Path(target).suffix == ".npz"):
            siblings = [path.name for path in Path(target).absolute().parent.glob("*") if os.path.isdir(path)]
            found = similar_file(Path(target).name, siblings)
            right = "a folder of images" if found is None else str(Path(target).parent / found)
            raise SettingsError(f"{target} is no folder of images", nearest=right)
    if not os.path.exists(targets[-1]):
        raise SettingsError(f"{targets[-1]}: no such file", nearest="a folder of real images")
    return None


def _of_run(folder: Path) -> bool:
    """Whether a folder is a run or a checkpoint."""
    return any(os.path.isfile(folder / name) for name in ("experiment.yaml", "checkpoint.json"))


def as_trained(checkpoint: Path, assignments: Sequence[str]) -> Metrics:
    """The metrics of the checkpoint's experiment, changed by the command line."""
    try:
        about = json.loads((checkpoint / "checkpoint.json").read_text())
        trained = dict(about["experiment"]["metrics"])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{checkpoint / 'checkpoint.json'} is damaged: {error}", nearest="another run") from None
    changed = [word.removeprefix("metrics.") for word in assignments if word.startswith("metrics.")]
    if any(word.startswith("extractor=") for word in changed):  # the old weights and statistics do not fit it
        trained = {key: value for key, value in trained.items() if key not in ("weights", "download", "statistics")}
    return Metrics.load(assign(trained, changed, paths(Metrics)), prefix="metrics.")


def packs_of(checkpoint: Path, given: Storage) -> Storage:
    """The storage that packs are fetched from: the command line's, with the S3 address of the checkpoint's run if the
    command line gives none."""
    run = RunPaths(checkpoint.parent.parent).experiment
    if given.endpoint_url is not None or not run.is_file():
        return given
    url = (parse_yaml(run.read_text()).get("storage") or {}).get("endpoint_url")
    return given.model_copy(update={"endpoint_url": url})


def check_drawing(seed: int | None, truncation: float | None, options: Sequence[str]) -> None:
    """Raises SettingsError for a seed or a truncation that cannot be, or that a picture of real images lacks.

    `options`: the given ones of those that choose a picture.
    """
    if seed is not None and not 0 <= seed < 2**31:
        raise SettingsError(
            f"--seed={seed} is not in 0 to {2**31 - 1}", nearest=f"--seed {min(max(seed, 0), 2**31 - 1)}"
        )
    if truncation is not None and not 0 <= truncation < math.inf:
        raise SettingsError(f"--truncation={truncation:g} is below 0", nearest="--truncation 0.5")
    for option, value in (("--seed", seed), ("--truncation", truncation)):
        if value is not None and options and options[0] in ("--reconstruct", "--animate"):
            raise SettingsError(f"{option}={value} has no meaning with {options[0]}", nearest=f"no {option}")
