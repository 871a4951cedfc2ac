"""What `ganfleet evaluate` is asked to measure; torch-free, so that a typing mistake is told at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gan_core.experiment import Metrics
from gan_core.settings import SettingsError, assign, nearest, parse_yaml, paths
from pipelines.runs import RunFolder, find_checkpoint
from pipelines.settings import EvaluateSettings, Storage


def checked_targets(targets: Sequence[str], where: EvaluateSettings, save_stats: str | None) -> Path | None:
    """The checkpoint that is meant, or None for folders of images."""
    if len(targets) not in (1, 2):
        example = "evaluate RUN, or evaluate FAKE_FOLDER REAL_FOLDER"
        raise SettingsError(f"evaluate takes one or two targets, not {len(targets)}; nearest: {example}")
    if len(targets) == 1 and (save_stats is None or not _of_images(Path(targets[0]))):
        if _of_images(Path(targets[0])):
            raise SettingsError(
                f"{targets[0]} is a folder of images: against what?"
                f" nearest: evaluate {targets[0]} REAL_FOLDER|STATS.npz"
            )
        return find_checkpoint(targets[0], where.storage)
    _check_apply(where.metrics)
    for target in targets:
        if (Path(target) / "experiment.yaml").is_file() or (Path(target) / "checkpoint.json").is_file():
            raise SettingsError(f"{target} is a run, no folder of images; nearest: evaluate {target}")
        if not Path(target).is_dir() and not (target == targets[-1] and Path(target).suffix == ".npz"):
            known = [str(path) for path in Path(target).absolute().parent.glob("*") if path.is_dir()]
            hint = f"; nearest: {nearest(target, known)}" if known else ""
            raise SettingsError(f"{target} is no folder of images{hint}")
    if not Path(targets[-1]).exists():
        raise SettingsError(f"{targets[-1]}: no such file; nearest: a folder of real images")
    return None


def _check_apply(metrics: Metrics) -> None:
    """Of folders all images are measured, against what is named: other settings have no meaning."""
    for name, value in metrics.chosen().items():
        if name in ("samples", "reference_samples", "statistics", "async"):
            raise SettingsError(f"metrics.{name}={value} has no meaning for folders of images; nearest: leave it out")


def _of_images(path: Path) -> bool:
    """Whether a path is a folder, and neither a run nor a checkpoint."""
    return path.is_dir() and not any((path / name).is_file() for name in ("experiment.yaml", "checkpoint.json"))


def as_trained(checkpoint: Path, assignments: Sequence[str]) -> Metrics:
    """The metrics of the checkpoint's experiment, changed by the command line."""
    try:
        about = json.loads((checkpoint / "checkpoint.json").read_text())
        trained = dict(about["experiment"]["metrics"])
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{checkpoint / 'checkpoint.json'} is damaged: {error}; nearest: another run") from None
    asked = [word.removeprefix("metrics.") for word in assignments if word.startswith("metrics.")]
    if any(word.startswith("extractor=") for word in asked):  # weights and statistics were the other extractor's
        trained = {key: value for key, value in trained.items() if key not in ("weights", "download", "statistics")}
    return Metrics.load(assign(trained, asked, paths(Metrics)), prefix="metrics.")


def packs_of(checkpoint: Path, given: Storage) -> Storage:
    """How packs are fetched: as the checkpoint's run does, unless the command line says otherwise."""
    run = RunFolder(checkpoint.parent.parent).experiment
    if given.endpoint_url is not None or not run.is_file():
        return given
    url = (parse_yaml(run.read_text()).get("storage") or {}).get("endpoint_url")
    return given.model_copy(update={"endpoint_url": url})


def drawing_file(out: str | None, kinds: dict[str, bool], label: int | None) -> str:
    """Where `sample` writes. Raises SettingsError for options that exclude each other, or another kind of file."""
    asked = [name for name, wanted in kinds.items() if wanted]
    if len(asked) > 1:
        raise SettingsError(f"{' and '.join(asked)} are two pictures; nearest: {asked[0]}")
    if label is not None and asked and asked[0] != "--interpolate":
        raise SettingsError(f"--label={label} has no meaning with {asked[0]}; nearest: no --label")
    suffix, kind = (".gif", "a GIF") if asked == ["--animate"] else (".png", "a PNG")
    out = out or "samples" + suffix
    if not out.lower().endswith(suffix):
        stem = out.removesuffix(Path(out).suffix)
        raise SettingsError(f"--out={out} is not {kind} file; nearest: --out {stem}{suffix}")
    return out


def pictures_beside(checkpoint: Path) -> list[Path]:
    """The sample grids of the run that a checkpoint belongs to, oldest first."""
    return RunFolder(checkpoint.parent.parent).pictures()
