"""`ganfleet new`: a package whose family is right and learns, under a name that nothing has."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest
from torch.testing import assert_close

from gan_core.experiment import Experiment, Metrics
from gan_core.loop import Game, rounds
from gan_core.metrics.scores import scores
from gan_core.metrics.statistics.reference import Reference
from gan_core.testing import check_family
from tests.gan_core.games import dataset
from tests.pipelines.small_runs import ganfleet_here


@pytest.fixture
def written(tmp_path, monkeypatch, capsys):
    """The folder of a new package, which can be imported."""
    monkeypatch.chdir(tmp_path)
    done = ganfleet_here(monkeypatch, capsys, "new", "gan_of_mine")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  cd gan_of_mine\n" in done.stdout
    assert "  ganfleet train gan_of_mine\n" in done.stdout
    monkeypatch.syspath_prepend(tmp_path / "gan_of_mine" / "src")
    yield tmp_path / "gan_of_mine"
    for name in [name for name in sys.modules if name.partition(".")[0] == "gan_of_mine"]:
        del sys.modules[name]


def test_it_is_a_package_with_a_short_family_that_is_right(written):
    source = written / "src" / "gan_of_mine"
    assert len((source / "gans.py").read_text().splitlines()) <= 40
    assert (source / "py.typed").is_file()
    text = "".join(file.read_text() for file in written.rglob("*") if file.is_file())
    assert "PACKAGE" not in text
    assert "CLASS" not in text
    for verb in (("check",), ("format", "--check")):
        done = subprocess.run([f"{sys.prefix}/bin/ruff", *verb, "--no-cache", "."], cwd=written, capture_output=True)
        assert done.returncode == 0, done.stdout.decode()
    points = tomllib.loads((written / "pyproject.toml").read_text())["project"]["entry-points"]
    assert {group: list(names) for group, names in points.items()} == {
        f"ganfleet.{group}": ["gan_of_mine"] for group in ("families", "nets", "datasets")
    }
    for value in (value for names in points.values() for value in names.values()):
        module, _, name = value.partition(":")
        assert hasattr(import_module(module), name)
    check_family("gan_of_mine.gans:GanOfMine")


def test_its_family_learns_its_images(written):
    """The FID of pixels falls below two thirds of that of an untrained generator."""
    experiment = Experiment.load(
        {"family": {"name": "gan_of_mine.gans:GanOfMine", "ema": 0.9, "lr": 3e-3}, "data": {"batch_size": 32}}
    ).override("metrics.samples=600", "data.image_size=8")
    real = dataset(experiment)
    game = Game(experiment, real.shape, classes=real.classes)
    reference = Reference.build(Metrics(extractor="pixels"), real)
    before = scores(game, reference)["fid"]
    for _ in zip(range(50), rounds(game, real.images, real.labels), strict=False):
        pass
    assert scores(game, reference)["fid"] < before * 2 / 3


def test_its_images_are_discs_and_squares(written):
    images, labels = import_module("gan_of_mine.data").load()
    assert images.shape == (1000, 16, 16)
    assert (images.dtype, images.min(), images.max()) == ("uint8", 0, 255)
    assert set(labels.tolist()) == {0, 1}
    full = (images.astype(float) / 255).sum(axis=(1, 2))
    sides = (images.max(axis=2) > 127).sum(axis=1)
    share = full / sides**2
    assert_close(share[labels == 0].mean(), 3.14159 / 4, rtol=0.08, atol=0)
    assert_close(share[labels == 1].mean(), 1.0, rtol=0.08, atol=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-gan", "'my-gan' is no name of a package: small letters, digits and _; nearest: ganfleet new my_gan"),
        ("MyGan", "'MyGan' is no name .*; nearest: ganfleet new my_gan"),
        ("2D gan/next try", "nearest: ganfleet new next_try"),
        ("there", "there exists; nearest: ganfleet new my_there"),
        ("linked", "linked exists; nearest: ganfleet new my_linked"),
        ("torch", "'torch' is taken: Python has a module of that name; nearest: ganfleet new my_torch"),
        ("sgan", "'sgan' is taken: there is a family of that name; nearest: ganfleet new my_sgan"),
        ("class", "nearest: ganfleet new class_gan"),
        ("日本", "nearest: ganfleet new my_gan"),
        ("", "nearest: ganfleet new my_gan"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_nearest(tmp_path, monkeypatch, capsys, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    os.symlink("nowhere", tmp_path / "linked")
    done = ganfleet_here(monkeypatch, capsys, "new", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: .*{said}\n", done.stderr), done.stderr
    assert sorted(os.listdir(tmp_path)) == ["linked", "there"]
