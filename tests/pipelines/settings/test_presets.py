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
from pipelines.search._study import published
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
    options |= family.without_meaning().keys()
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


MODELS = ["gan-minimax", "gan-non_saturating", "lsgan", "wgan", "wgan_gp", "dragan", "began", "vae"]


def test_equal_is_the_study_at_a_hundred_trials_a_model():
    experiment = equal()
    assert list(experiment.entries) == MODELS == list(published()["mnist"])
    search = experiment.search
    assert search.compare
    assert (search.sampler, search.scheduler, search.trials) == ("random", "none", 100 * len(MODELS))
    assert (search.confirm, search.confirm_seeds) == (1, 50)
    for family in experiment.families:
        assert (family.net, family.width, family.latent, family.beta2, family.ema) == ("infogan", 64, 64, 0.999, 0)
        assert family.z == ("normal" if family.name == "vae" else "uniform")
    assert experiment.data.batch_size == 64


def test_equals_ranges_are_those_of_compare_gan():
    """src/params.py: powers of ten, both ends. Its beta1 goes to 1, which Adam refuses."""
    wide = {"lr": (-5, -2), "clip": (-3, 0), "gp_lambda": (-1, 2), "lambda_k": (-4, -2)}
    own = {"wgan": {"clip"}, "wgan_gp": {"gp_lambda"}, "dragan": {"gp_lambda"}, "began": {"lambda_k", "gamma"}}
    for name, space in equal().spaces().items():
        norm = "encoder_batch_norm" if name == "vae" else "critic_batch_norm"
        steps = set() if name == "vae" else {"n_critic"}
        assert set(space) == {"lr", "beta1", norm, *steps, *own.get(name, ())}, name
        for field, domain in space.items():
            if field in wide:
                assert [math.log10(end) for end in domain.ends] == pytest.approx(wide[field]), f"{name}.{field}"
                assert domain.log
            elif field in ("n_critic", norm):
                assert set(domain.ends) == ({1, 5} if field == "n_critic" else {False, True})
            else:
                assert field in ("beta1", "gamma")
                assert domain.ends == pytest.approx((0, 1), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "size", "steps"),
    [
        ("digits", 16, 15625),
        ("mnist", 28, 15625),
        ("fashion_mnist", 28, 15625),
        ("cifar10", 32, 78125),
        ("celeba", 64, 101250),
    ],
)
def test_equal_has_the_studys_critic_steps_of_each_data_set(name, size, steps):
    """generate_tasks_lib.py, TuneParams. A round of five critic steps is five of them."""
    experiment = equal(f"data.name={name}")
    assert experiment.data.image_size == size
    for critic_steps in (1, 5):
        assert experiment.budget.last_round(64 * critic_steps) == -(-steps // critic_steps)


def test_equal_takes_any_budget():
    experiment = equal("data.name=fashion_mnist", "search.trials=96", "budget.images=100000", "search.confirm_seeds=5")
    assert (experiment.search.trials, experiment.search.confirm_seeds, experiment.data.image_size) == (96, 5, 28)
    assert experiment.budget.last_round(64) == 1563


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
