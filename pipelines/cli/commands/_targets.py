"""What `sample` writes. Imports no torch, so that a mistake is reported at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gan_core.settings import SettingsError, unknown
from pipelines.evaluate.export_output import check_place

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
    """Raises SettingsError if a file is of another kind, options exclude each other, or it cannot be written to.

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
    if not found.out.startswith("s3://"):
        if found.kind == "folder":
            _check_folder(found.out)
        else:
            check_place(found.out, Path(found.out))
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
