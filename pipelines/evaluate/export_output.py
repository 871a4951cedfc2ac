"""Where `ganfleet export` writes to. Imports no torch, so that a mistake is reported at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gan_core.settings import SettingsError, unknown

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
"""Of the file, by what it is."""


@dataclass(frozen=True)
class ExportOutput:
    """A generator's file and its model card, each a path or an address in S3."""

    file: str
    card: str


def export_output(to: str, out: str | None) -> ExportOutput:
    """Where to write. In a folder the files are `generator` and README.md, which hubs of models show; a file has its
    card next to it. Raises SettingsError for what cannot be written.

    `out`: None is a file in the working folder.
    """
    if to not in SUFFIXES:
        raise SettingsError(unknown("--to", to, SUFFIXES))
    _check_packages(to)
    out = f"generator{SUFFIXES[to]}" if out is None else out
    if out.endswith("/") or os.path.isdir(out):
        folder = out.rstrip("/") or "/"
        found = ExportOutput(f"{folder}/generator{SUFFIXES[to]}", f"{folder}/README.md")
    else:
        stem, suffix = os.path.splitext(out)
        if suffix != SUFFIXES[to]:
            stem = stem if suffix in SUFFIXES.values() else out
            right = f"--out {stem}{SUFFIXES[to]}, or --out {stem}/"
            raise SettingsError(f"--out={out} is no {SUFFIXES[to]} file", nearest=right)
        found = ExportOutput(out, f"{stem}.md")
    if not out.startswith("s3://"):
        check_place(out, Path(found.file))
    return found


def _check_packages(to: str) -> None:
    missing = [name for name in ("onnx", "onnxscript") if to == "onnx" and find_spec(name) is None]
    if missing:
        raise SettingsError(f"--to onnx needs {' and '.join(missing)}", nearest="pip install 'ganfleet[export]'")


def check_place(out: str, file: Path) -> None:
    """Raises SettingsError if the folder of a file cannot be made, or cannot be written to."""
    there = next(path for path in file.absolute().parents if os.path.lexists(path))
    if not there.is_dir():
        raise SettingsError(f"--out={out}: {there} is no folder", nearest=f"--out {file.name}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise SettingsError(f"--out={out}: {there} cannot be written to", nearest=f"--out {file.name}")
    if file.is_dir():
        raise SettingsError(f"--out={out}: {file} is a folder", nearest=f"--out {file}/")
