"""A generator as an MLflow model, which `mlflow.pytorch` and `mlflow.pyfunc` load without ganfleet."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_core import checkpoint, streams
from gan_core.loop import Game
from infra.mlflow.model import save_model
from infra.versions import version_of
from pipelines.evaluate.export import _generator_model
from pipelines.evaluate.export._graph import NoGraphError, exported_program
from pipelines.evaluate.pictures import class_columns, pictured_samples

WEIGHTS = "generator.safetensors"
"""The generator as `ganfleet export --to safetensors` writes it."""
_EXAMPLE_ROWS = 64


def write_model(folder: Path, into: Path, about: Mapping[str, Any]) -> str:
    """Writes a checkpoint's averaged generator into an empty folder as an MLflow model, and next to it as safetensors.

    The module of `mlflow.pytorch` maps z (N, latent) to samples (N, *shape), with labels (N,) as its second argument if
    the family is conditional. It is torch's exported graph, so no code and no pickle are loaded with it. `about`: what
    else `MLmodel` says of it. Of a generator that torch cannot export, as one of your own may be, only the safetensors
    file is written. Returns why; empty if all went well.
    """
    game = checkpoint.open_game(folder)
    try:
        program = exported_program(game)
    except NoGraphError as error:
        checkpoint.save_generator(game, into / WEIGHTS)
        return str(error)
    with tempfile.TemporaryDirectory() as aside:
        data, code = Path(aside, "data"), Path(aside, "ganfleet_generator.py")
        data.mkdir()
        torch.export.save(program, data / _generator_model.EXPORTED)
        (data / _generator_model.ABOUT).write_text(json.dumps(_content(game)))
        shutil.copy(_generator_model.__file__, code)
        example = pictured_latents(game)[:_EXAMPLE_ROWS].numpy()
        params = {"seed": -1, **({"label": -1} if game.conditional else {})}
        metadata = {**about, "family": game.experiment.family.name, "classes": list(game.class_names)}
        requirements = [f"{package}=={version_of(package)}" for package in ("mlflow", "torch", "numpy")]
        save_model(into, data, code, example, tuple(game.shape), params, requirements, metadata)
    checkpoint.save_generator(game, into / WEIGHTS)
    return ""


def pictured_latents(game: Game) -> Tensor:
    """The noise of the samples that `ganfleet sample` draws: (N, latent)."""
    count = pictured_samples(class_columns(game), images=len(game.shape) == 3)
    family = game.experiment.family
    return streams.latents(game.experiment.seed, "picture", 0, count, family.latent, game.device, game.dtype, family.z)


def _content(game: Game) -> dict[str, Any]:
    """What the model knows of its samples."""
    return {
        "classes": game.classes if game.conditional else None,
        "dtype": str(game.dtype).removeprefix("torch."),
        "latent": game.experiment.family.latent,
        "seed": game.experiment.seed,
        "z": game.experiment.family.z,
    }
