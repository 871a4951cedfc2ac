"""What `evaluate` and `sample` look at and write. Imports no torch, so that a mistake is reported at once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gan_core.experiment import Metrics
from gan_core.settings import SettingsError, assign, parse_yaml, paths, similar_file, unknown
from pipelines.runs import RunPaths, find_checkpoint
from pipelines.settings import EvaluateSettings, Storage


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
        if name in ("samples", "reference_samples", "statistics", "async"):
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


MOST_PICTURED, MOST_FILES = 4096, 1_000_000
FORMATS = ("png", "npz")


@dataclass(frozen=True)
class SampleOutput:
    """What `sample` writes, and where."""

    out: str
    kind: Literal["picture", "npz", "folder"]
    form: str = "png"
    """Of the files in a folder."""


def sample_output(
    out: str | None, form: str | None, count: int | None, kinds: dict[str, bool], label: str | None
) -> SampleOutput:
    """Raises SettingsError if a file is of another kind, options exclude each other, or a folder cannot be written to.

    `kinds`: the options that choose a picture, and whether each was given.
    """
    options = [name for name, given in kinds.items() if given]
    if len(options) > 1:
        raise SettingsError(f"{' and '.join(options)} are two pictures", nearest=options[0])
    if label is not None and options and options[0] in ("--reconstruct", "--animate"):
        raise SettingsError(f"--label={label} has no meaning with {options[0]}", nearest="no --label")
    if form is not None and form not in FORMATS:
        raise SettingsError(unknown("--format", form, FORMATS))
    found = _output(out, form, options)
    most = MOST_PICTURED if found.kind == "picture" else MOST_FILES
    if count is not None and not 1 <= count <= most:
        right = f"--count {min(max(count, 1), most)}"
        more = f", or --out {Path(found.out).stem}/ for a file each" if count > most and not options else ""
        raise SettingsError(
            f"--count={count} is not in 1 to {most}", nearest=right + (more if most < MOST_FILES else "")
        )
    if found.kind != "picture" and options:
        suffix = ".gif" if options == ["--animate"] else ".png"
        right = f"--out {found.out.rstrip('/').removesuffix('.npz')}{suffix}"
        raise SettingsError(f"--out={found.out} is of single samples, {options[0]} draws one picture", nearest=right)
    if found.kind == "folder" and not found.out.startswith("s3://"):
        _check_folder(found.out)
    return found


def _output(out: str | None, form: str | None, options: Sequence[str]) -> SampleOutput:
    suffix, kind = (".gif", "a GIF") if options == ["--animate"] else (".png", "a PNG")
    if out is None:
        return SampleOutput("samples" + suffix, "picture") if form is None else SampleOutput("samples/", "folder", form)
    given = Path(out).suffix.lower()
    if out.endswith("/") or os.path.isdir(out) or (not given and not options):
        return SampleOutput(out, "folder", form or "png")
    if given == ".npz" and form != "png":
        return SampleOutput(out, "npz", "npz")
    stem = out.removesuffix(Path(out).suffix)
    if form is not None:
        raise SettingsError(f"--out={out} is a file, --format={form} is of a folder", nearest=f"--out {stem}/")
    if given != suffix:
        raise SettingsError(f"--out={out} is not {kind} file", nearest=f"--out {stem}{suffix}")
    return SampleOutput(out, "picture")


def _check_folder(out: str) -> None:
    """Raises SettingsError if a folder of samples cannot be made there, or has files of something else."""
    folder = Path(out).absolute()
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise SettingsError(f"--out={out}: {there} is no folder", nearest=f"--out {out.rstrip('/')}-samples/")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingsError(f"--out={out}: {there} cannot be written to", nearest="--out samples/")
    if there == folder and os.access(there, os.R_OK):
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        if names and "samples.json" not in names:
            right = f"--out {folder if out in ('.', './') else out.rstrip('/')}/samples/"
            raise SettingsError(f"--out={out} has other files ({names[0]})", nearest=right)


def check_drawing(seed: int | None, truncation: float | None, options: Sequence[str]) -> None:
    """Raises SettingsError for a seed or a truncation that cannot be, or that a picture of real images lacks.

    `options`: the given ones of those that choose a picture.
    """
    if seed is not None and not 0 <= seed < 2**31:
        raise SettingsError(
            f"--seed={seed} is not in 0 to {2**31 - 1}", nearest=f"--seed {min(max(seed, 0), 2**31 - 1)}"
        )
    if truncation is not None and not 0 < truncation < math.inf:
        raise SettingsError(f"--truncation={truncation:g} is no limit above 0", nearest="--truncation 0.5")
    for option, value in (("--seed", seed), ("--truncation", truncation)):
        if value is not None and options and options[0] in ("--reconstruct", "--animate"):
            raise SettingsError(f"{option}={value} has no meaning with {options[0]}", nearest=f"no {option}")
