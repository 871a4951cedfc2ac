"""A generator as an MLflow model: it draws what `ganfleet sample` draws, also where ganfleet is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image

from gan_core import checkpoint
from gan_core.experiment import Experiment
from gan_core.loop import Game
from pipelines.evaluate.export.mlflow_model import pictured_latents, write_model
from pipelines.evaluate.sample import sample

DIGITS, RING = {"name": "digits", "image_size": 16}, {"name": "ring8"}
GAMES = [
    ("dcgan", DIGITS, "fp32"),
    ("cwgan_gp", DIGITS, "fp32"),
    ("sgan", DIGITS, "fp64"),
    ("wgan_gp", DIGITS, "bf16"),
    ("vae", DIGITS, "fp32"),
    ("gan", RING, "fp32"),
]


def saved_game(folder: Path, family: str, data: dict, precision: str) -> Game:
    """A game after no round, its average unlike its generator, in a checkpoint."""
    values = {"family": {"name": family}, "data": data, "compute": {"precision": precision}, "seed": 5}
    shape = (2,) if data is RING else (1, 16, 16)
    game = Game(Experiment.load(values), shape, classes=1 if data is RING else 10)
    with torch.no_grad():
        for weight in game.average.parameters():
            weight.mul_(1.5)
    checkpoint.save(game, folder)
    return game


def tiles(picture: Path, side: int) -> np.ndarray:
    """The samples in a sheet of enlarged tiles with margins of 2 pixels: (N, side, side), uint8."""
    sheet = np.asarray(Image.open(picture))
    across = (sheet.shape[1] - 2) // (48 + 2)
    down = (sheet.shape[0] - 2) // (48 + 2)
    corners = [(2 + 50 * row, 2 + 50 * column) for row in range(down) for column in range(across)]
    return np.stack([sheet[top : top + 48 : 48 // side, left : left + 48 : 48 // side] for top, left in corners])


@pytest.mark.parametrize(("family", "data", "precision"), GAMES, ids=[one[0] for one in GAMES])
def test_the_loaded_model_draws_the_same_samples_bit_for_bit(tmp_path, family, data, precision):
    game = saved_game(tmp_path / "step-000000", family, data, precision)
    model = tmp_path / "model"
    model.mkdir()
    write_model(tmp_path / "step-000000", model, {"fid": 31.5})
    loaded, served = mlflow.pytorch.load_model(str(model)), mlflow.pyfunc.load_model(str(model))
    assert isinstance(loaded, torch.nn.Module)
    assert served.metadata.metadata["fid"] == 31.5
    z = pictured_latents(game)
    labels = torch.arange(len(z)) % 10
    for count in (1, 7, len(z)):
        given = (z[:count], labels[:count]) if game.conditional else (z[:count],)
        assert torch.equal(loaded(*given), game.sample(z[:count]))
        assert np.array_equal(served.predict(z[:count].numpy()), game.sample(z[:count]).numpy())
    assert np.array_equal(served.predict(served.input_example), game.sample(z)[:64].numpy())
    if data is not RING:
        sample(tmp_path / "step-000000", tmp_path / "drawn.png", None)
        drawn = ((served.predict(z.numpy()).astype(np.float32) + 1) * np.float32(127.5)).round().astype(np.uint8)[:, 0]
        assert np.array_equal(tiles(tmp_path / "drawn.png", 16), drawn)


def test_a_served_model_draws_one_class(tmp_path):
    game = saved_game(tmp_path / "step-000000", "cgan", DIGITS, "fp32")
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "step-000000", tmp_path / "model", {})
    served, z = mlflow.pyfunc.load_model(str(tmp_path / "model")), pictured_latents(game)[:4]
    threes = game.sample(z, torch.full((4,), 3))
    assert np.array_equal(served.predict(z.numpy(), params={"label": 3}), threes.numpy())
    with pytest.raises(ValueError, match="label=10: classes are 0 to 9"):
        served.predict(z.numpy(), params={"label": 10})


@pytest.mark.full
def test_the_model_loads_without_ganfleet(tmp_path):
    game = saved_game(tmp_path / "step-000000", "wgan", DIGITS, "fp32")
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "step-000000", tmp_path / "model", {})
    z = pictured_latents(game)[:2]
    np.save(tmp_path / "z.npy", z.numpy())
    code = (
        "import sys, numpy, mlflow.pyfunc as p;"
        "sys.modules |= dict.fromkeys(['gan_core', 'pipelines', 'infra']);"
        "numpy.save('out.npy', p.load_model('model').predict(numpy.load('z.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert np.array_equal(np.load(tmp_path / "out.npy"), game.sample(z).numpy())
    assert "ganfleet" not in (tmp_path / "model" / "requirements.txt").read_text()
