"""A generator as an MLflow model: it draws what `ganfleet sample` draws, also where ganfleet is not installed."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from rich.console import Console

from gan_core import checkpoint
from gan_core.checkpoint import open_generator
from gan_core.experiment import Experiment
from gan_core.loop import Game
from pipelines.evaluate.drawing import Drawing
from pipelines.evaluate.export.mlflow_model import pictured_latents, write_model
from pipelines.evaluate.sample import sample
from pipelines.evaluate.sample_files import write_npz
from tests.servers import free_ports, running

DIGITS, RING = {"name": "digits", "image_size": 16}, {"name": "ring8"}
GAMES = [
    ("dcgan", DIGITS, "fp32"),
    ("cwgan_gp", DIGITS, "fp32"),
    ("sgan", DIGITS, "fp64"),
    ("wgan_gp", DIGITS, "bf16"),
    ("vae", DIGITS, "fp32"),
    ("gan", RING, "fp32"),
    ("stylegan2", DIGITS, "fp32"),
]


def saved_game(folder: Path, family: str, data: dict, precision: str, z: str = "normal") -> Game:
    """A game after no round, its average unlike its generator, in a checkpoint."""
    values = {"family": {"name": family, "z": z}, "data": data, "compute": {"precision": precision}, "seed": 5}
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


@pytest.mark.parametrize(
    ("family", "precision", "z"), [("cgan", "fp32", "normal"), ("wgan", "fp64", "normal"), ("wgan", "fp32", "uniform")]
)
def test_a_row_of_one_number_is_a_sample_of_the_command(tmp_path, family, precision, z):
    folder = tmp_path / "step-000000"
    game = saved_game(folder, family, DIGITS, precision, z)
    (tmp_path / "model").mkdir()
    write_model(folder, tmp_path / "model", {})
    dtype = np.float64 if precision == "fp64" else np.float32
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    for seed, given in {5: {}, 77: {"seed": 77}}.items():
        write_npz(folder, tmp_path / "drawn.npz", 600, Drawing(seed=seed), Console(quiet=True))
        shown = np.load(tmp_path / "drawn.npz")["images"]
        found = served.predict(np.array([[599], [0], [256]], dtype), params=given)
        pixels = ((found.astype(np.float32) + 1) * np.float32(127.5)).round().astype(np.uint8)
        assert np.array_equal(pixels.transpose(0, 2, 3, 1), shown[[599, 0, 256]])
    if game.conditional:
        z = Drawing(seed=3).latents(game, "picture", 9, 10)
        one = served.predict(np.array([[9]], dtype), params={"seed": 3, "label": 4})
        assert np.array_equal(one, game.sample(z, torch.tensor([4])).numpy())
    for wrong, why in (([[1.0, 2.0]], "or one, a sample's; not \\(1, 2\\)"), ([[-2.0]], "no sample -2")):
        with pytest.raises(ValueError, match=why):
            served.predict(np.array(wrong, dtype))


def test_the_weights_stand_next_to_it_and_no_pickle_is_needed(tmp_path, monkeypatch):
    game = saved_game(tmp_path / "step-000000", "vae", DIGITS, "fp32")
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "step-000000", tmp_path / "model", {})
    weights = safetensors.torch.load_file(tmp_path / "model" / "generator.safetensors")
    ours = game.average.state_dict()
    assert weights.keys() == ours.keys()
    assert all(torch.equal(weights[name], ours[name]) for name in ours)
    assert open_generator(tmp_path / "model" / "generator.safetensors").experiment == game.experiment
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    z = pictured_latents(game)[:2]
    assert torch.equal(mlflow.pytorch.load_model(str(tmp_path / "model"))(z), game.sample(z))


def answer(port: int, asked: dict) -> dict:
    """What the server of models says."""
    content, kind = json.dumps(asked).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", content, kind)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


@pytest.mark.full
def test_mlflow_serves_it_where_ganfleet_is_not_installed(tmp_path, monkeypatch):
    game = saved_game(tmp_path / "step-000000", "cgan", DIGITS, "fp32")
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "step-000000", tmp_path / "model", {})
    assert "ganfleet" not in (tmp_path / "model" / "requirements.txt").read_text()
    absent = "import sys; sys.modules |= dict.fromkeys(['gan_core', 'pipelines', 'infra', 'tune_spaces'])"
    (tmp_path / "sitecustomize.py").write_text(absent)
    (port,) = free_ports(1)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    words = ["serve", "-m", tmp_path / "model", "--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    command = [sys.executable, "-m", "mlflow", "models", *map(str, words)]
    with running([command], f"http://127.0.0.1:{port}/ping", tmp_path / "log"):
        found = answer(port, {"inputs": [[0], [7]], "params": {"seed": 6, "label": 3}})["predictions"]
        z = Drawing(seed=6).latents(game, "picture", 0, 8)[[0, 7]]
        assert np.array_equal(np.float32(found), game.sample(z, torch.tensor([3, 3])).numpy())
        found = answer(port, {"inputs": z.tolist()})["predictions"]
        assert np.array_equal(np.float32(found), game.sample(z).numpy())
        refused = answer(port, {"inputs": [[0]], "params": {"label": 10}})
        assert refused["status"] == 400
        assert refused["message"].endswith("Error: label=10: classes are 0 to 9; -1 draws each in turn")
