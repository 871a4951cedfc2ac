"""Families and networks outside of ours: found by their place or by an installed package's entry point."""

import logging
import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest
import torch

from gan_core import checkpoint, settings
from gan_core.experiment import Experiment
from gan_core.family import family_names
from gan_core.settings import SettingsError
from tests.gan_core.games import BATCH, asked, new_game, play, small
from tests.gan_core.modern import Modern
from tune_spaces.domains import SearchedFields

OWN_NETS = """
import torch
from torch import nn

def generator(latent, shape, width):
    size = torch.Size(shape).numel()
    return nn.Sequential(nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, size), nn.Tanh(), nn.Unflatten(1, shape))

def critic(shape, width):
    size = torch.Size(shape).numel()
    layers = nn.Flatten(), nn.Linear(size, width), nn.SiLU(), nn.Linear(width, 1), nn.Flatten(0)
    return nn.Sequential(*layers)

class Both:
    generator = staticmethod(generator)
    critic = staticmethod(critic)

class Half:
    generator = staticmethod(generator)

ready = Both()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package `elsewhere` of a family and of networks, with entry points for both."""
    settings.installed.cache_clear()
    source = Path(sys.modules[Modern.__module__].__file__).read_text().replace("class Modern", "class Elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text("")
    (tmp_path / "elsewhere" / "gans.py").write_text(source)
    (tmp_path / "elsewhere" / "own.py").write_text(OWN_NETS)
    about = tmp_path / "elsewhere-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[ganfleet.families]\nelse_gan = elsewhere.gans:Elsewhere\n[ganfleet.nets]\nelse_nets = elsewhere.own:Both\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "elsewhere"
    for name in [name for name in sys.modules if name.partition(".")[0] == "elsewhere"]:
        del sys.modules[name]
    settings.installed.cache_clear()


def experiment(family: str, *words: str) -> Experiment:
    sizes = ["family.latent=8", "family.width=4", f"data.batch_size={BATCH}"]
    return Experiment.load({"family": family}).override(*sizes, *words)


def test_its_name_is_its_place():
    family = small("modern").family
    assert family.name == "tests.gan_core.modern:Modern"
    assert type(family) is Modern
    assert Experiment.from_yaml(small("modern").to_yaml()) == small("modern")


def test_an_installed_packages_family_has_its_entry_points_name(package):
    assert "else_gan" in family_names()
    made = experiment("else_gan")
    assert made.family.name == "else_gan"
    assert Experiment.from_yaml(made.to_yaml()) == made
    with pytest.raises(SettingsError, match="unknown family 'else_gn'; nearest: else_gan"):
        experiment("else_gn")


def test_its_search_space_and_errors_follow_from_its_fields():
    assert {"lr", "critic_lr", "gp_lambda", "n_critic"} == set(SearchedFields().space(Modern()))
    with pytest.raises(
        SettingsError, match=r"family.critic_lr=2 is out of range, at most 1.0; nearest: family.critic_"
    ):
        small("modern", "family.critic_lr=2")
    with pytest.raises(SettingsError, match=r"'family.critic_rate' of tests.*:Modern; nearest: family.critic_lr"):
        small("modern", "family.critic_rate=1")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("no_such:Gan", "Python finds no module 'no_such' here; nearest: install it, or set PYTHONPATH"),
        ("elsewhere.gins:Elsewhere", "Python finds no module 'elsewhere.gins' here"),
        ("elsewhere.gans:Elsewere", "elsewhere.gans has no 'Elsewere'; nearest: Elsewhere"),
        ("elsewhere.own:Both", "is no Family; nearest: class Both\\(Family\\)"),
        (
            "elsewhere.needs:Gan",
            "importing elsewhere.needs raises ModuleNotFoundError: No module named 'not_installed'",
        ),
        ("elsewhere.torn:Gan", "importing elsewhere.torn raises SyntaxError"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(package, place, said):
    (package / "needs.py").write_text("import not_installed")
    (package / "torn.py").write_text("class Gan(")
    invalidate_caches()
    with pytest.raises(SettingsError, match=f"^family={place}:? {said}") as error:
        experiment(place)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_its_family_says_what_is_missing(package, tmp_path, monkeypatch):
    game = new_game(experiment("elsewhere.gans:Elsewhere"))
    play(game, 1)
    folder = checkpoint.save(game, tmp_path / "here")
    for name in [name for name in sys.modules if name.partition(".")[0] == "elsewhere"]:
        del sys.modules[name]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path)])
    with pytest.raises(
        SettingsError, match=r"cannot be rebuilt: family=elsewhere.gans:Elsewhere: Python finds no module"
    ):
        checkpoint.open_game(folder)


def test_other_code_than_a_checkpoints_is_warned_of(package, tmp_path, caplog):
    game = new_game(experiment("elsewhere.gans:Elsewhere"))
    folder = checkpoint.save(game, tmp_path / "here")
    with caplog.at_level(logging.WARNING):
        checkpoint.open_game(folder)
        assert caplog.messages == []
        with (package / "gans.py").open("a") as file:
            file.write("# another line")
        again = checkpoint.open_game(folder)
    assert caplog.messages == [f"{folder} was trained by other code of elsewhere.gans:Elsewhere"]
    assert torch.equal(again.sample(*asked(again, 2)), game.sample(*asked(game, 2)))


@pytest.mark.parametrize("net", ["elsewhere.own:Both", "elsewhere.own:ready", "else_nets"])
@pytest.mark.parametrize("family", ["wgan_gp", "cwgan_gp", "sgan", "wgan"])
def test_own_networks_play_in_our_families(package, family, net):
    game = new_game(experiment(family, f"family.net={net}"))
    assert "SiLU" in str(game.generator)
    assert "SiLU" in str(game.players["critic"])
    for one in play(game, 2):
        one.scalars()


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("resnt", "unknown family.net 'resnt'; nearest: resnet"),
        ("elsewhere.own:Half", "family.net=elsewhere.own:Half lacks generator.* or critic"),
        ("elsewhere.own:Bth", "family.net=elsewhere.own:Bth: elsewhere.own has no 'Bth'; nearest: Both"),
    ],
)
def test_networks_that_cannot_be_had_are_named(package, net, said):
    with pytest.raises(SettingsError, match=said):
        new_game(experiment("wgan_gp", f"family.net={net}"))


def test_a_critic_without_features_is_refused_by_a_family_that_builds_on_them(package):
    (package / "whole.py").write_text(
        "from elsewhere.own import *\nfrom elsewhere import own\n"
        "def critic(shape, width):\n    return nn.ModuleList([own.critic(shape, width)])[0][:1]\n"
    )
    (package / "whole_nets.py").write_text("from elsewhere import whole as nets")
    invalidate_caches()
    with pytest.raises(
        SettingsError, match="family.net: this family builds on the critic's features; nearest: a critic"
    ):
        new_game(experiment("sgan", "family.net=elsewhere.whole_nets:nets"))
