"""The presets: each loads, can be built, names its source, and is found by its name."""

import math
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from setuptools import Distribution

from gan_core.experiment import POINTS
from gan_core.settings import SettingsError
from pipelines.launch._request import train_experiment
from pipelines.launch._search_request import search_experiment
from pipelines.settings._experiments import SearchExperiment, TrainExperiment
from pipelines.settings._presets import PRESETS, preset_names, read_config

SHAPES = {
    "mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "celeba": ((3, 64, 64), 1),
    "lsun": ((3, 64, 64), 1),
    "ring8": ((2,), 8),
    "grid25": ((2,), 25),
}
"""One sample of the data that the presets name, and its classes."""

TRAINED = [name for name in preset_names() if name not in ("demo", "equal")]
every_preset = pytest.mark.parametrize("name", TRAINED)


def experiment_of(name: str, *assignments: str) -> TrainExperiment:
    return train_experiment([], assignments, read_config(Path(name)))


def head_of(name: str) -> str:
    """The comment that a preset begins with."""
    lines = (PRESETS / f"{name}.yaml").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.removeprefix("# ") for line in lines[:first])


def test_the_papers_are_there():
    assert {
        "dcgan-celeba64",
        "began-celeba",
        "wgan-paper",
        "wgan_gp-cifar10",
        "wgan_gp-cifar10-mimicry",
        "gan-mnist",
    } <= {*TRAINED}


@every_preset
def test_each_is_of_the_family_and_the_data_in_its_name(name):
    experiment = experiment_of(name)
    family, _, rest = name.partition("-")
    assert experiment.family.name == family
    assert rest == "paper" or rest.startswith(experiment.data.name)
    assert experiment.data.name in POINTS or experiment.data.image_size == SHAPES[experiment.data.name][0][1]


@every_preset
def test_each_says_all_of_its_familys_training_itself(name):
    """A default that changes later does not change a paper's settings."""
    family = experiment_of(name).family
    options = {"n_critic", "instance_noise", "noise_rounds", "minibatch_features", "dropout", "unrolled"}
    options |= {"augment", "ada_target", "ada_images", "r1_gamma", "r1_every", "z", "critic_batch_norm", "critic_lr"}
    assert type(family).model_fields.keys() - options <= family.model_fields_set | {"ema", "ema_half_life"}


@every_preset
def test_each_names_its_source_and_what_was_published(name):
    head = head_of(name)
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", head)
    assert "Published" in head


@every_preset
def test_each_is_built_at_its_datas_shape(name):
    """Without memory or arithmetic: on the meta device."""
    experiment = experiment_of(name)
    shape, classes = SHAPES[experiment.data.name]
    with torch.device("meta"):
        recipe = experiment.family.recipe(shape, classes)
        z, labels = torch.empty(4, experiment.family.latent), torch.empty(4, dtype=torch.long)
        samples = recipe.generator.eval()(z, labels) if recipe.conditional else recipe.generator.eval()(z)
    assert samples.shape == (4, *shape)
    assert {parameter.device.type for player in recipe.players.values() for parameter in player.parameters()} == {
        "meta"
    }


def test_dcgans_generator_is_the_papers():
    """Figure 1: z -> 4x4x1024 -> 8x8x512 -> 16x16x256 -> 32x32x128 -> 64x64x3; its kernels are 5x5, ours 4x4."""
    with torch.device("meta"):
        generator = experiment_of("dcgan-celeba64").family.recipe(*SHAPES["celeba"]).generator
    channels = [1024, 512, 256, 128]
    maps = [100 * 16 * 1024, *[16 * one * other for one, other in zip(channels, [*channels[1:], 3], strict=True)]]
    assert sum(one.numel() for one in generator.parameters()) == sum(maps) + 2 * sum(channels) + 3


def test_the_demo_is_a_search():
    experiment = search_experiment([], [], read_config(Path("demo")))
    assert {family.name for family in experiment.families} == {"wgan", "wgan_gp", "cwgan_gp"}
    assert (experiment.search.confirm, experiment.search.confirm_seeds) == (1, 3)


def equal(*assignments: str) -> SearchExperiment:
    return search_experiment([], assignments, read_config(Path("equal")))


def test_equal_is_the_study_at_a_hundred_trials_a_family():
    experiment = equal()
    assert [family.name for family in experiment.families] == ["gan", "wgan", "wgan_gp", "began", "dcgan", "vae"]
    search = experiment.search
    assert search.compare
    assert (search.sampler, search.scheduler, search.trials) == ("random", "none", 100 * len(experiment.families))
    assert (search.confirm, search.confirm_seeds) == (1, 50)
    assert {family.latent for family in experiment.families} == {64}
    assert experiment.data.batch_size == 64


def test_equals_ranges_are_those_of_compare_gan():
    """src/params.py: powers of ten, both ends. Its beta1 goes to 1, which Adam refuses."""
    wide = {"lr": (-5, -2), "clip": (-3, 0), "gp_lambda": (-1, 2), "lambda_k": (-4, -2)}
    for name, space in equal().spaces().items():
        for field, domain in space.items():
            if field in wide:
                assert [math.log10(end) for end in domain.ends] == pytest.approx(wide[field]), f"{name}.{field}"
                assert domain.log
            elif field == "n_critic":
                assert set(domain.ends) == {1, 5}
            else:
                assert field in ("beta1", "gamma")
                assert domain.ends == pytest.approx((0, 1), abs=1e-3)


def test_equal_takes_any_budget():
    experiment = equal("search.trials=60", "budget.rounds=500", "search.confirm_seeds=3")
    assert (experiment.search.trials, experiment.budget.rounds, experiment.search.confirm_seeds) == (60, 500, 3)
    mnist = ("data.name=mnist", "data.image_size=28", "data.download=true", "budget.rounds=15625")
    assert equal(*mnist).data.image_size == 28


# By name


def test_a_preset_is_found_by_its_name_and_the_command_line_wins():
    experiment = experiment_of("wgan_gp-cifar10", "data.download=true", "family.n_critic=1")
    assert experiment.data.download
    assert (experiment.family.lr, experiment.family.n_critic, experiment.family.net) == (2e-4, 1, "resnet")
    assert experiment.budget.rounds == 100_000


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = read_config(Path("demo"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "demo").write_text("family: wgan\n")
    assert read_config(Path("demo")) == "family: wgan\n" != shipped
    (tmp_path / "demo").unlink()
    (tmp_path / "demo").mkdir()
    assert read_config(Path("demo")) == shipped
    assert read_config(None) == ""


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("wgan_gp-cifar", "wgan_gp-cifar10"),
        ("dcgan-celeba", "dcgan-celeba64"),
        ("gan_mnist", "gan-mnist"),
        ("wgan-paper.yml", "wgan-paper"),
        ("nowhere/demo", "demo"),
        ("presets/equal.yaml", "equal"),
        ("nowhere/mine.yaml", f"a YAML file, or one of {', '.join(preset_names())}"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_preset(tmp_path, monkeypatch, asked, near):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        read_config(Path(asked))
    assert str(caught.value).endswith(f"no such file or preset; nearest: {near}")


def test_the_wheel_carries_them(monkeypatch):
    """As setuptools reads `pyproject.toml`."""
    monkeypatch.chdir(PRESETS.parents[2])
    wheel = Distribution()
    wheel.parse_config_files(["pyproject.toml"])
    assert "pipelines.settings.presets" in wheel.packages
    patterns = wheel.package_data[""]  # of every package
    assert all(any(fnmatch(f"{name}.yaml", pattern) for pattern in patterns) for name in preset_names())
