"""A registered generator as `mlflow.pyfunc` loads it.

Each model has a copy of this file as `code/ganfleet_generator.py`. It imports nothing of ganfleet, so that a server of
models needs MLflow and torch only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

EXPORTED, ABOUT = "model.pt2", "generator.json"
_BLOCK = 256


class WrongInputError(MlflowException, ValueError):
    """What a caller asks for cannot be drawn. A server answers with its line."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


class GeneratorModel:
    """Latent points or numbers of samples in, samples out."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / ABOUT).read_text())
        self._classes: int | None = about["classes"]
        self._dtype = getattr(torch, about["dtype"])
        self._latent: int = about["latent"]
        self._seed: int = about["seed"]
        self._z: str = about["z"]
        self._net = torch.export.load(folder / EXPORTED).module()

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Samples (N, ...) for N rows; images are in [-1, 1].

        A row of `latent` numbers is a latent point. A row of one number, i, is sample i of `ganfleet sample`; the param
        `seed` is its seed, that of the run if it is -1. The param `label` is the number of the class that a conditional
        generator draws; -1: sample i has class i % classes, a latent point counts as the number of its row.

        Raises WrongInputError for rows of another width, and for a class or a sample that there is not.
        """
        rows, given = np.array(data), params or {}
        if rows.ndim != 2 or rows.shape[1] not in (1, self._latent):
            raise WrongInputError(
                f"rows have {self._latent} numbers, a latent point, or one, a sample's; not {rows.shape}"
            )
        places = torch.arange(len(rows))
        if rows.shape[1] == self._latent:
            z = torch.as_tensor(rows, dtype=self._dtype)
        else:
            places = torch.as_tensor(rows[:, 0]).long()
            z = self._drawn(places.tolist(), int(given.get("seed", -1)))
        taken = [z]
        if self._classes is not None:
            label = int(given.get("label", -1))
            if not -1 <= label < self._classes:
                raise WrongInputError(f"label={label}: classes are 0 to {self._classes - 1}; -1 draws each in turn")
            taken.append(places % self._classes if label < 0 else torch.full((len(z),), label))
        with torch.no_grad():
            return self._net(*taken).numpy()

    def _drawn(self, places: list[int], seed: int) -> torch.Tensor:
        """The latent points of these samples, from the table of `gan_core.streams.latents`."""
        if any(place < 0 for place in places):
            raise WrongInputError(f"there is no sample {min(places)}; the first is 0")
        seed = self._seed if seed < 0 else seed
        blocks = {place // _BLOCK: self._block(seed, place // _BLOCK) for place in places}
        return torch.stack([blocks[place // _BLOCK][place % _BLOCK] for place in places])

    def _block(self, seed: int, block: int) -> torch.Tensor:
        digest = hashlib.blake2b(f"{seed}/picture/block/{block}".encode(), digest_size=8).digest()
        draw = torch.Generator().manual_seed(int.from_bytes(digest) >> 1)
        if self._z == "uniform":
            return 2 * torch.rand(_BLOCK, self._latent, generator=draw, dtype=self._dtype) - 1
        return torch.randn(_BLOCK, self._latent, generator=draw, dtype=self._dtype)


def _load_pyfunc(path: str) -> GeneratorModel:
    """What `mlflow.pyfunc.load_model` calls."""
    return GeneratorModel(Path(path))
