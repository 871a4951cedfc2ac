"""Statistics files in pytorch-fid's form: an npz of `mu` (D,) and `sigma` (D, D)."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_core.files import replacing
from gan_core.metrics.fid import Gaussian

_WANTED = "wanted: an npz of mu (D,) and sigma (D, D)"

_ASYMMETRY = 1e-5
"""Largest difference between sigma and its transpose, as a share of its largest value: the rounding of float32."""

_NOTE = 2**16
"""Largest size in bytes of an entry that is read as a string. Some files also hold the features of every image."""

_DAMAGE = (KeyError, OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What numpy and zipfile raise for damaged files."""


def write_statistics(path: Path, gaussian: Gaussian, about: dict[str, str]) -> None:
    """Writes `mu` and `sigma`, float64, and each string of `about` under its own key, which other readers ignore.

    The file is replaced atomically. Raises OSError if the folder does not exist.
    """
    notes: dict[str, Any] = {key: np.array(value, dtype=np.str_) for key, value in about.items()}
    with replacing(path) as file:
        np.savez(file, mu=gaussian.mean.cpu().numpy(), sigma=gaussian.covariance.cpu().numpy(), **notes)


def read_statistics(path: Path) -> tuple[Gaussian, dict[str, str]]:
    """Mean and covariance, float64 for any precision of the file, and the file's strings. Nothing is unpickled.

    Raises ValueError, naming the file, if it does not exist, is no npz or is damaged, or if `mu` and `sigma` are no
    mean and covariance.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; {_WANTED}")
    try:
        with zipfile.ZipFile(path) as file:
            names = [entry.filename.removesuffix(".npy") for entry in file.infolist()]
            arrays = {name: _array(file, f"{name}.npy") for name in ("mu", "sigma") if name in names}
            about = _strings(file)
    except _DAMAGE as error:
        raise ValueError(f"{path} is no npz or a damaged one: {' '.join(str(error).split())}; {_WANTED}") from None
    if len(arrays) < 2:
        raise ValueError(f"{path} holds {', '.join(sorted(names)) or 'nothing'}; {_WANTED}")
    mu, sigma = arrays["mu"], arrays["sigma"]
    problem = _problem(mu, sigma)
    if problem:
        raise ValueError(f"{path}: {problem}")
    mean, covariance = (torch.from_numpy(value.astype(np.float64)) for value in (mu, sigma))
    return Gaussian(mean, (covariance + covariance.T) / 2), about


def _array(file: zipfile.ZipFile, entry: str) -> np.ndarray[Any, Any]:
    with file.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _strings(file: zipfile.ZipFile) -> dict[str, str]:
    """The entries that are one string each. Large entries are not read; pickled ones are skipped."""
    found = {}
    for entry in file.infolist():
        if entry.file_size > _NOTE:
            continue
        try:
            value = _array(file, entry.filename)
        except ValueError:  # an array of objects, or no array
            continue
        if value.shape == () and value.dtype.kind == "U":
            found[entry.filename.removesuffix(".npy")] = str(value)
    return found


def _problem(mu: np.ndarray[Any, Any], sigma: np.ndarray[Any, Any]) -> str:
    """Why these are no mean and covariance; an empty string if they are."""
    for name, value in (("mu", mu), ("sigma", sigma)):
        if value.dtype.kind not in "fiu":
            return f"{name} holds no real numbers; {_WANTED}"
    if mu.ndim != 1 or mu.size == 0 or sigma.shape != mu.shape * 2:
        return f"mu is of shape {mu.shape}, sigma of {sigma.shape}; wanted: (D,) and (D, D)"
    for name, value in (("mu", mu), ("sigma", sigma)):
        bad = int((~np.isfinite(value)).sum())
        if bad:
            return f"{name} holds {bad} values that are not finite; wanted: none"
    apart = float(np.abs(sigma - sigma.T).max())
    if apart > _ASYMMETRY * float(np.abs(sigma).max()):
        return f"sigma differs from its transpose by up to {apart:.4g}; wanted: a symmetric covariance"
    least = float(sigma.diagonal().min())
    if least < 0:
        return f"sigma holds a variance of {least:.4g}; wanted: 0 or more"
    lowest, *_, highest = np.linalg.eigvalsh((sigma + sigma.T).astype(np.float64) / 2)[[0, -1]]
    if lowest < -_ASYMMETRY * highest:
        return f"sigma has an eigenvalue of {lowest:.4g}; wanted: a covariance, whose eigenvalues are 0 or more"
    return ""
