"""A generator as an MLflow model, which `mlflow.pytorch` and `mlflow.pyfunc` load without ganfleet."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core import checkpoint, streams
from gan_core.loop import Game
from infra.mlflow.model import save_model
from infra.versions import version_of
from pipelines.evaluate import _generator_model
from pipelines.evaluate.pictures import class_columns, pictured_samples

_TRACED_ROWS = 3
"""With so many rows torch traces the generator, which takes any number later."""
_EXAMPLE_ROWS = 64


def write_model(folder: Path, into: Path, about: Mapping[str, Any]) -> str:
    """Writes a checkpoint's averaged generator into an empty folder as an MLflow model.

    The module of `mlflow.pytorch` maps z (N, latent) to samples (N, *shape), with labels (N,) as its second argument if
    the family is conditional. It is torch's exported graph. `about`: what else `MLmodel` says of it. Of a generator
    that torch cannot export, as one of your own may be, nothing is written. Returns why; empty if all went well.
    """
    game = checkpoint.open_game(folder)
    with tempfile.TemporaryDirectory() as aside:
        data, code = Path(aside, "data"), Path(aside, "ganfleet_generator.py")
        data.mkdir()
        try:
            _export(game, data / _generator_model.EXPORTED)
        except Exception as error:  # torch raises errors of many kinds for what it cannot trace
            return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        classes = game.classes if game.conditional else None
        content = {"classes": classes, "dtype": str(game.dtype).removeprefix("torch.")}
        (data / _generator_model.ABOUT).write_text(json.dumps(content))
        shutil.copy(_generator_model.__file__, code)
        example = pictured_latents(game)[:_EXAMPLE_ROWS].numpy()
        metadata = {**about, "family": game.experiment.family.name, "classes": list(game.class_names)}
        requirements = [f"{package}=={version_of(package)}" for package in ("mlflow", "torch", "numpy")]
        shape = tuple(game.shape)
        save_model(into, data, code, example, shape, {"label": -1} if classes else {}, requirements, metadata)
    return ""


def pictured_latents(game: Game) -> Tensor:
    """The noise of the samples that `ganfleet sample` draws: (N, latent)."""
    count = pictured_samples(class_columns(game), images=len(game.shape) == 3)
    latent = game.experiment.family.latent
    return streams.latents(game.experiment.seed, "picture", 0, count, latent, game.device, game.dtype)


class _Sampled(nn.Module):
    """The averaged generator as `Game.sample` calls it."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.net, self.autocast, self.dtype = game.average, game.autocast, game.dtype

    def forward(self, *given: Tensor) -> Tensor:
        with self.autocast():
            return self.net(*given).to(self.dtype)


def _export(game: Game, file: Path) -> None:
    """Writes the generator's graph, for any number of rows."""
    given = [streams.latents(0, "export", 0, _TRACED_ROWS, game.experiment.family.latent, game.device, game.dtype)]
    if game.conditional:
        given.append(streams.labels_of(0, _TRACED_ROWS, game.classes, game.device))
    rows = {0: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(_Sampled(game), tuple(given), dynamic_shapes=((rows,) * len(given),))
        if not torch.equal(program.module()(*given), game.sample(*given)):
            raise ValueError("its graph draws other samples")
    torch.export.save(program, file)
