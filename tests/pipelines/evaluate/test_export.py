"""`ganfleet export`: files of other programs' formats draw what `ganfleet sample` draws, or are not written."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch

from gan_core import checkpoint, streams
from gan_core.loop import Game
from gan_core.settings import SettingsError
from pipelines.evaluate.export import command, export
from tests.gan_core.games import GAMES, asked, new_game, play, small

GENERATORS = (
    *("autoencoder", "began", "bigan", "cgan", "cgan-mlp", "cgan-ring8", "cwgan_gp", "cwgan_gp-resnet", "dcgan"),
    *(
        "biggan",
        "dcgan-dropout",
        "dragan",
        "gan",
        "gan-unrolled",
        "lsgan",
        "modern",
        "r3gan",
        "sgan",
        "sngan",
        "stylegan2",
        "vae",
        "wgan",
        "wgan-mlp",
        "wgan-ring8",
        "wgan_gp-resnet",
    ),
)
"""Games with every generator that there is; the others differ in what trains it."""

QUICK = ("autoencoder", "cgan", "cwgan_gp-resnet", "modern")
"""One of each kind of network. The others are of the full tests."""


def saved(game: Game, folder: Path) -> Path:
    """The checkpoint of a game whose average is unlike its generator."""
    with torch.no_grad():
        for weight in game.average.parameters():
            weight.mul_(1.1)
    return checkpoint.save(game, folder / "step")


def wide(family: str, net: str) -> Game:
    """A game of colour images that are wider than high."""
    chosen = [f"family.net={net}"] if net != "dcgan" else []
    return Game(small(family, "data.image_size=64x128", *chosen, width=2), (3, 64, 128), classes=10)


def drawn(file: Path, *given: torch.Tensor) -> np.ndarray:
    """What ONNX Runtime draws."""
    session = onnxruntime.InferenceSession(file)
    names = ["z", "label"][: len(given)]
    assert [one.name for one in session.get_inputs()] == names
    (found,) = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
    return found


def test_the_generators_are_of_every_family():
    assert {GAMES[game][0] for game in GENERATORS} == {words[0] for words in GAMES.values()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.full) for name in GENERATORS]
)
def test_onnx_runtime_draws_our_samples(tmp_path, name):
    game = new_game(small(name))
    play(game, 2)
    done = export(saved(game, tmp_path), "onnx", tmp_path / "net.onnx")
    assert "onnxruntime" in done.checked
    for count in (1, 7, 300):
        given = asked(game, count)
        np.testing.assert_allclose(drawn(done.file, *given), game.sample(*given).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "net"), [("dcgan", "dcgan"), pytest.param("cwgan_gp", "resnet", marks=pytest.mark.full)]
)
def test_onnx_runtime_draws_wide_images(tmp_path, family, net):
    game = wide(family, net)
    done = export(saved(game, tmp_path), "onnx", tmp_path / "net.onnx")
    given = asked(game, 2)
    found = drawn(done.file, *given)
    assert found.shape == (2, 3, 64, 128)
    np.testing.assert_allclose(found, game.sample(*given).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", [pytest.param("fp64", marks=pytest.mark.full), "bf16"])
def test_onnx_computes_in_float32_and_says_how_far_that_is(tmp_path, precision):
    game = new_game(small("wgan_gp", f"compute.precision={precision}"))
    done = export(saved(game, tmp_path), "onnx", tmp_path / "net.onnx")
    z = streams.latents(0, "picture", 0, 64, 8, game.device, game.dtype)
    difference = np.abs(drawn(done.file, z.float()) - game.sample(z).numpy()).max()
    assert difference < {"fp64": 1e-5, "bf16": 0.1}[precision]
    said = re.search(r"in float32, and by at most (\S+) in compute.precision=(\w+)$", done.checked)
    assert said[2] == precision
    assert float(said[1]) == pytest.approx(difference, rel=0.1)


@pytest.mark.parametrize(
    ("name", "precision"), [("biggan", "fp32"), ("autoencoder", "fp64"), ("modern", "bf16"), ("wgan-ring8", "fp32")]
)
def test_torchs_program_and_the_weights_draw_our_samples_bit_for_bit(tmp_path, name, precision):
    game = new_game(small(name, f"compute.precision={precision}"))
    play(game, 1)
    folder = saved(game, tmp_path)
    program = torch.export.load(export(folder, "torch", tmp_path / "net.pt2").file).module()
    rebuilt = checkpoint.open_generator(export(folder, "safetensors", tmp_path / "net.safetensors").file)
    for count in (1, 7):
        given = asked(game, count)
        assert torch.equal(program(*given), game.sample(*given))
        assert torch.equal(rebuilt.sample(*given), game.sample(*given))


def test_a_file_says_what_it_is_and_nothing_of_this_machine(tmp_path):
    game = new_game(small("cgan"))
    game.step, game.class_names = 12, tuple("abcdefghij")
    folder = saved(game, tmp_path)
    model = onnx.load(export(folder, "onnx", tmp_path / "a.onnx").file)
    onnx.checker.check_model(model, full_check=True)
    said = {one.key: one.value for one in model.metadata_props}
    with safetensors.safe_open(export(folder, "safetensors", tmp_path / "a.safetensors").file, "pt") as opened:
        assert set(opened.keys()) == set(game.average.state_dict())
        about = json.loads(opened.metadata()["ganfleet"])
    for values in (about, json.loads(said["settings"])):
        assert values["experiment"]["family"]["name"] == "cgan"
        assert (values["step"], values["class_names"]) == (12, list("abcdefghij"))
    shapes = [[d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in model.graph.input]
    assert shapes == [["batch", 8], ["batch"]]
    export(folder, "torch", tmp_path / "a.pt2")
    here = str(Path(checkpoint.__file__).parents[1]).encode()
    assert [path.name for path in tmp_path.glob("a.*") if here in path.read_bytes()] == []


FOREIGN = '''
from gan_core.families.adversarial.wgan import Wgan

class Branching(Wgan):
    """Its generator asks what z is."""

class Restless(Wgan):
    """Its generator draws noise of its own."""

class Rooted(Wgan):
    """Its generator has an operator that ONNX lacks."""

def recipe(self, shape, classes):
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(net, inner):
            super().__init__()
            net.inner = inner

        def forward(net, z):
            if self.name.endswith("Branching"):
                return net.inner(z if z.sum() > 0 else -z)
            if self.name.endswith("Restless"):
                return net.inner(z + torch.randn_like(z))
            return net.inner(z * torch.linalg.eigvalsh(z.T @ z))

    found = Wgan.recipe(self, shape, classes)
    object.__setattr__(found, "generator", Net(found.generator))
    return found

for one in (Branching, Restless, Rooted):
    one.recipe = recipe
'''


@pytest.mark.parametrize(
    ("family", "formats", "why"),
    [
        ("Branching", ["safetensors"], "data-dependent"),
        ("Restless", [], "other samples|differ by"),
        ("Rooted", ["torch", "safetensors"], "No ONNX function found for .*linalg_eig"),
    ],
)
def test_what_cannot_be_exported_says_why_in_one_line(tmp_path, monkeypatch, family, formats, why):
    (tmp_path / f"own_{family}.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    experiment = small("wgan", "family.net=mlp").model_dump(mode="json")
    experiment["family"]["name"] = f"own_{family}:{family}"
    folder = saved(Game(type(small("wgan")).load(experiment), (1, 16, 16), classes=10), tmp_path)
    (tmp_path / "out").mkdir()
    for to, suffix in (("onnx", "onnx"), ("torch", "pt2"), ("safetensors", "safetensors")):
        if to in formats:
            export(folder, to, tmp_path / "out" / f"net.{suffix}")
            continue
        with pytest.raises(SettingsError, match=why) as caught:
            export(folder, to, tmp_path / "out" / f"net.{suffix}")
        assert f"--to {to}: own_{family}:{family} has no such file: " in str(caught.value)
        assert "\n" not in str(caught.value)
    written = {path.suffix for path in (tmp_path / "out").iterdir()} - {".md"}
    assert written == {{"torch": ".pt2", "safetensors": ".safetensors"}[to] for to in formats}


def test_without_onnx_runtime_onnx_itself_checks_small_generators(tmp_path, monkeypatch):
    folder = saved(new_game(small("dcgan")), tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "4 samples by the reference evaluator of onnx" in export(folder, "onnx", tmp_path / "net.onnx").checked
    monkeypatch.setattr(command, "MOST_OPERATIONS", 1e5)
    done = export(folder, "onnx", tmp_path / "large.onnx")
    assert done.checked == "not checked, for lack of onnxruntime"
    assert done.checked in done.card.read_text()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SettingsError) as caught:
        export(folder, "onnx", tmp_path / "net.onnx")
    assert str(caught.value) == "--to onnx needs onnxscript; nearest: pip install 'ganfleet[export]'"
