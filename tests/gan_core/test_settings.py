import subprocess
import sys
from pathlib import Path

import pytest

from gan_core.experiment import Budget, Experiment
from gan_core.family import Family, family_class, family_names
from gan_core.settings import SettingsError, assign, parse_yaml
from tests.gan_core.games import small, tiered

ROOT = Path(__file__).parents[2]


def experiment(family: str = "wgan_gp", **values) -> Experiment:
    return Experiment.load({"family": family, **values})


def refusal(make, *args) -> str:
    """The one-line error for a mistake."""
    with pytest.raises(SettingsError) as caught:
        make(*args)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# Valid settings


def test_the_files_of_the_folder_are_the_families():
    files = {path.stem for path in (ROOT / "gan_core" / "families").rglob("*.py")} - {"__init__"}
    assert set(family_names()) == files
    assert {"dcgan", "gan", "wgan", "wgan_gp"} <= files


@pytest.mark.parametrize("name", family_names())
def test_a_familys_name_is_its_files(name):
    assert issubclass(family_class(name), Family)
    assert family_class(name).name == name
    assert experiment(name).family == family_class(name)()


def test_override_sets_each_kind_of_value_and_leaves_the_rest():
    before = experiment()
    after = before.override(
        "family.lr=3e-4", "family.net=mlp", "budget.images=4096", "budget.rounds=null", "compute.precision=bf16"
    )
    assert after.family.lr == 3e-4
    assert after.family.net == "mlp"
    assert (after.budget.images, after.budget.rounds) == (4096, None)
    assert after.compute.precision == "bf16"
    assert after.data == before.data
    assert after.family.gp_lambda == before.family.gp_lambda == 10.0
    assert before == experiment()


def test_the_last_override_wins():
    assert experiment().override("seed=1", "seed=2").override("seed=3").seed == 3
    assert experiment().override("seed=1", "seed=2").seed == 2


def test_an_override_can_change_the_family():
    assert experiment("wgan").override("family.name=dcgan").family == family_class("dcgan")()


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        experiment().seed = 1
    with pytest.raises(ValueError, match="frozen"):
        experiment().family.lr = 1.0


@pytest.mark.parametrize("name", tiered())
def test_yaml_round_trip(name):
    before = small(name, "seed=7", "budget.images=12345", "compute.precision=fp64", "family.ema=0.5")
    text = before.to_yaml()
    assert Experiment.from_yaml(text) == before
    assert type(Experiment.from_yaml(text).family) is type(before.family)
    assert Experiment.from_yaml(text).to_yaml() == text


@pytest.mark.parametrize("name", family_names())
def test_yaml_names_every_field(name):
    written = parse_yaml(experiment(name).to_yaml())
    assert set(written) == {"seed", "family", "data", "budget", "metrics", "compute"}
    assert set(written["family"]) == {"name", *family_class(name).model_fields}


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-04"])
def test_scientific_notation_is_a_number_everywhere(text):
    """YAML 1.1 reads `1e-4` as a string."""
    assert experiment().override(f"family.lr={text}").family.lr == 1e-4
    assert Experiment.from_yaml(f"family: {{name: wgan_gp, lr: {text}}}").family.lr == 1e-4
    assert Experiment.load({"family": {"name": "wgan_gp", "lr": text}}).family.lr == 1e-4


@pytest.mark.parametrize("text", ["1e-3", "on", "2026-11-28"])
def test_what_a_mistake_looked_like_is_told_as_it_was_typed(text):
    message = refusal(experiment("wgan").override, f"family.net={text}")
    assert message.startswith(f"unknown family.net '{text}'; nearest: ")
    message = refusal(Experiment.from_yaml, f"{{family: wgan, data: {{name: {text}}}}}")
    assert message.startswith(f"unknown data.name '{text}'; nearest: ")


def test_a_family_in_yaml_may_be_its_name_alone():
    assert Experiment.from_yaml("family: wgan") == experiment("wgan")


def test_assignments_apply_to_a_family_that_is_its_name_alone():
    values = assign(parse_yaml("family: wgan"), ["family.lr=1e-4"], known=["family.lr"])
    assert Experiment.load(values).family.lr == 1e-4


def test_assignments_apply_to_a_section_left_empty():
    values = assign(parse_yaml("family: wgan\ndata:\n"), ["data.batch_size=32"], known=["data.batch_size"])
    assert Experiment.load(values).data.batch_size == 32


# Budget


@pytest.mark.parametrize(
    ("values", "images_per_round", "last"),
    [
        ({}, 64, 1000),
        ({"rounds": 7}, 64, 7),
        ({"images": 640}, 64, 10),
        ({"images": 641}, 64, 11),
        ({"images": 1}, 320, 1),
        ({"images": 640_000}, 64, 10_000),
        ({"rounds": 5, "images": 640}, 64, 5),
        ({"rounds": 50, "images": 640}, 64, 10),
        ({"rounds": None, "images": 640}, 320, 2),
    ],
)
def test_whichever_budget_ends_first_ends_the_game(values, images_per_round, last):
    assert Budget.load(values).last_round(images_per_round) == last
    assert Budget.from_yaml(Budget.load(values).to_yaml()).last_round(images_per_round) == last


def test_a_budget_in_images_set_by_hand_is_not_cut_short_by_the_default_rounds():
    assert experiment().override("budget.images=10000000").budget.rounds is None
    assert experiment(budget={"images": 10_000_000}).budget.last_round(64) == 156_250


# Errors


@pytest.mark.parametrize(
    ("family", "assignment", "parts"),
    [
        ("wgan", "family.name=wgan-gp", ["family", "'wgan-gp'", "nearest: wgan_gp", "dcgan"]),
        (
            "wgan_gp",
            "family.clip=0.01",
            ["'family.clip' of wgan_gp (a setting of wgan)", "leave it out, or family wgan"],
        ),
        ("wgan_gp", "family.gp_lamda=1", ["'family.gp_lamda'", "wgan_gp", "nearest: family.gp_lambda"]),
        ("wgan_gp", "lr=1e-4", ["'lr'", "nearest: family.lr"]),
        ("wgan_gp", "lr=fast", ["'lr'", "nearest: family.lr"]),
        ("wgan_gp", "sed=1", ["'sed'", "nearest: seed"]),
        ("wgan_gp", "data.batchsize=1", ["'data.batchsize'", "nearest: data.batch_size"]),
        ("wgan_gp", "budget.round=10", ["'budget.round'", "nearest: budget.rounds"]),
        ("wgan_gp", "dat.name=digits", ["'dat.name'", "nearest: data.name"]),
        ("wgan_gp", "family.lr.x=1", ["'family.lr.x'", "nearest: family.lr"]),
        ("wgan_gp", "foo", ["'foo'", "key=value", "nearest: "]),
        ("wgan_gp", "family.lr", ["'family.lr'", "key=value", "nearest: family.lr=..."]),
        ("wgan_gp", "family.lr=fast", ["family.lr='fast'", "a number", "nearest: family.lr=0.0001"]),
        ("wgan_gp", "family.lr=nan", ["family.lr=", "nan", "finite", "nearest: family.lr=0.0001"]),
        ("wgan_gp", "family.lr=inf", ["family.lr=", "inf", "finite", "nearest: family.lr=0.0001"]),
        ("wgan_gp", "family.lr=", ["family.lr=", "a number", "nearest: family.lr=0.0001"]),
        ("wgan_gp", "family.lr=2", ["family.lr=2", "at most 1.0", "nearest: family.lr=1.0"]),
        ("wgan_gp", "family.lr=-0.1", ["family.lr=-0.1", "at least 1e-08", "nearest: family.lr=1e-08"]),
        ("wgan_gp", "family.n_critic=0", ["family.n_critic=0", "at least 1", "nearest: family.n_critic=1"]),
        ("wgan_gp", "family.n_critic=2.5", ["family.n_critic='2.5'", "whole number", "nearest: family.n_critic=5"]),
        ("wgan_gp", "family.net=dcgn", ["family.net", "'dcgn'", "nearest: dcgan", "auto, mlp, dcgan"]),
        ("gan", "family.loss=minmax", ["family.loss", "'minmax'", "nearest: minimax"]),
        ("wgan", "family.clip=-0.01", ["family.clip=-0.01", "at least 1e-06", "nearest: family.clip=1e-06"]),
        ("wgan_gp", "data.image_size=4", ["data.image_size=4", "outside of 8 to 512", "nearest: data.image_size=8"]),
        ("wgan_gp", "data.image_size=1000", ["data.image_size=1000", "nearest: data.image_size=512"]),
        ("wgan_gp", "data.image_size=big", ["data.image_size=big", "height x width", "nearest: data.image_size="]),
        ("wgan_gp", "data.batch_size=1", ["data.batch_size=1", "at least 2", "nearest: data.batch_size=2"]),
        ("wgan_gp", "data.name=digit", ["data.name", "'digit'", "nearest: digits", "ring8"]),
        ("wgan_gp", "budget.rounds=null", ["budget.rounds=null", "never ends", "nearest: budget.rounds=1000"]),
        ("wgan_gp", "budget.rounds=many", ["budget.rounds='many'", "whole number", "nearest: budget.rounds=1000"]),
        ("wgan_gp", "compute.precision=fp16", ["compute.precision", "'fp16'", "nearest: bf16", "fp32, bf16, fp64"]),
        ("wgan_gp", "metrics.extractor=pixel", ["metrics.extractor", "'pixel'", "nearest: pixels"]),
        ("wgan_gp", "metrics.samples=1", ["metrics.samples=1", "at least 2", "nearest: metrics.samples=2"]),
        ("wgan_gp", "seed=-1", ["seed=-1", "at least 0", "nearest: seed=0"]),
        ("wgan_gp", "seed=x", ["seed='x'", "whole number", "nearest: seed=0"]),
    ],
)
def test_a_mistake_is_told_in_one_line_with_the_nearest_right_setting(family, assignment, parts):
    message = refusal(experiment(family).override, assignment)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{}", ["family", "wgan_gp"]),
        ("family: {lr: 1}", ["family", "name", "wgan_gp"]),
        ("family: wgan-gp", ["family", "'wgan-gp'", "nearest: wgan_gp"]),
        ("family: wgan\nsed: 1", ["'sed'", "nearest: seed"]),
        ("family: wgan\nname: x", ["'name'", "nearest: data.name"]),
        ("family: {name: wgan, lr: fast}", ["family.lr='fast'", "nearest: family.lr=5e-05"]),
        ("family: wgan\nseed: 1.5", ["seed=1.5", "whole number", "nearest: seed=0"]),
        ("family: wgan\nseed: [1]", ["seed=[1]", "whole number", "nearest: seed=0"]),
        ("family: wgan\ndata: {name: on}", ["unknown data.name 'on'"]),
        ("family: wgan\ndata: digits", ["data='digits'"]),
        ("family: wgan\nseed: -1\ndata: {image_size: 7}", ["seed=-1", "data.image_size=7", "nearest: seed=0"]),
        (
            "family: wgan\nmetrics: {extractor: pixels, weights: x.safetensors}",
            ["metrics.weights", "metrics.extractor=pixels", "nearest: "],
        ),
        ("family: wgan\nbudget: {rounds: null}", ["budget.rounds=null", "never ends"]),
        ("- family", ["list"]),
        ("family: [wgan", ["YAML"]),
    ],
)
def test_a_mistake_in_yaml_is_told_the_same_way(text, parts):
    message = refusal(Experiment.from_yaml, text)
    for part in parts:
        assert part in message


def test_a_setting_of_another_family_is_an_error_not_ignored():
    """Each field of each family, set on every family that lacks it."""
    refused = 0
    for name in family_names():
        own = set(family_class(name).model_fields)
        for other in family_names():
            for field in set(family_class(other).model_fields) - own:
                message = refusal(experiment(name).override, f"family.{field}=1")
                assert f"'family.{field}'" in message
                assert "; nearest: leave it out, or family " in message or "; nearest: family." in message
                refused += 1
    assert refused > 0


# torch is imported only for training


def test_settings_and_families_are_known_without_torch():
    program = """
import sys
from gan_core.experiment import Experiment
from gan_core.family import family_names
for name in family_names():
    text = Experiment.load({"family": name}).override("seed=1").to_yaml()
    Experiment.from_yaml(text)
print(len(family_names()), *[name for name in ("torch", "numpy", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(family_names()))]
