"""A registered generator as `mlflow.pyfunc` loads it.

Each model has a copy of this file as `code/ganfleet_generator.py`. It imports nothing of ganfleet, so that a server of
models needs torch only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

EXPORTED, ABOUT = "model.pt2", "generator.json"


class GeneratorModel:
    """Latent points in, samples out."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / ABOUT).read_text())
        self._classes: int | None = about["classes"]
        self._dtype = getattr(torch, about["dtype"])
        self._net = torch.export.load(folder / EXPORTED).module()

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Samples (N, ...) for latent points (N, latent); images are in [-1, 1].

        The param `label` is the number of the class that a conditional generator draws; -1: row i has class
        i % classes. Raises ValueError for a class that there is not.
        """
        z = torch.as_tensor(np.array(data), dtype=self._dtype)
        given = [z]
        if self._classes is not None:
            label = int((params or {}).get("label", -1))
            if not -1 <= label < self._classes:
                raise ValueError(f"label={label}: classes are 0 to {self._classes - 1}; -1 draws each in turn")
            given.append(torch.arange(len(z)) % self._classes if label < 0 else torch.full((len(z),), label))
        with torch.no_grad():
            return self._net(*given).numpy()


def _load_pyfunc(path: str) -> GeneratorModel:
    """What `mlflow.pyfunc.load_model` calls."""
    return GeneratorModel(Path(path))
