"""`ganfleet train --init-from RUN|CHECKPOINT`: what is checked before torch is imported, and what the run keeps."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gan_core.settings import SettingsError
from pipelines.launch import CommandLine, Request, begin, train_request
from pipelines.settings import TrainExperiment

FAMILY = {"name": "wgan_gp", "latent": 12, "width": 6, "net": "auto", "lr": 1e-3, "n_critic": 3}


@pytest.fixture
def runs(tmp_path) -> Path:
    """A run named `early` with a checkpoint at step 40, and one of points."""
    for name, family, shape in (("early", FAMILY, [3, 16, 16]), ("dots", {**FAMILY, "net": "mlp"}, [2])):
        folder = tmp_path / "runs" / name
        (folder / "checkpoints" / "step-000040").mkdir(parents=True)
        (folder / "experiment.yaml").write_text("family: wgan_gp\n")
        about = {"step": 40, "shape": shape, "classes": 10, "experiment": {"family": family}}
        (folder / "checkpoints" / "step-000040" / "checkpoint.json").write_text(json.dumps(about))
    return tmp_path / "runs"


def asked(runs: Path, *words: str, **options: Any) -> Request[TrainExperiment]:
    options = {"resume": None, "from_search": None, "init_from": "early", **options}
    return train_request(
        CommandLine.of([f"storage.path={runs}", "name=late", *words], options.pop("config", None), **options)
    )


def test_the_familys_settings_are_those_of_the_run_and_can_be_changed(runs):
    family = asked(runs, "family.lr=1e-5", "budget.rounds=7").experiment.family.model_dump()
    assert {name: family[name] for name in FAMILY} == {**FAMILY, "lr": 1e-5}


def test_a_family_that_is_named_has_its_own_settings(runs):
    request = asked(runs, "wgan_gp", "family.latent=12", "family.width=6", "family.n_critic=1")
    assert request.experiment.family.lr == 1e-4


def test_where_the_weights_are_from_is_kept_with_the_run(runs):
    with begin(asked(runs)):
        pass
    saved = runs / "early" / "checkpoints" / "step-000040"
    origin = json.loads((runs / "late" / "id.json").read_text())["origin"]
    assert {name: value for name, value in origin.items() if name.startswith("ganfleet.")} == {
        "ganfleet.init_from": "early",
        "ganfleet.init_from.checkpoint": str(saved),
        "ganfleet.init_step": "40",
    }
    assert asked(runs, "name=later", init_from=str(saved)).origin["ganfleet.init_from.checkpoint"] == str(saved)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["wgan"],
            "family wgan does not fit --init-from early, whose weights are a wgan_gp; nearest: ganfleet train wgan_gp",
        ),
        (["wgan_gp"], "family.latent=64 does not fit .* are for family.latent=12; nearest: family.latent=12"),
        (["family.width=7"], "family.width=7 does not fit .*; nearest: family.width=6"),
        (["family.net=resnet"], "family.net=resnet does not fit .*; nearest: family.net=auto"),
        (
            ["data.image_size=8"],
            "data.image_size=8 does not fit .* are for data.image_size=16; nearest: data.image_size=16",
        ),
        (
            ["data.name=ring8"],
            "data.name=ring8, which is points, does not fit .* for images; nearest: a data set of images",
        ),
    ],
)
def test_the_setting_that_does_not_fit_is_named(runs, words, said):
    with pytest.raises(SettingsError, match=said):
        asked(runs, *words)


def test_points_and_images_are_told_apart(runs):
    with pytest.raises(SettingsError, match="data.name=digits, which is images, does not fit --init-from dots"):
        asked(runs, init_from="dots")
    assert asked(runs, "data.name=ring8", init_from="dots").experiment.family.latent == 12


def test_an_unknown_run_is_named_with_the_nearest_one(runs):
    with pytest.raises(SettingsError, match="no run named 'erly'.*nearest: early"):
        asked(runs, init_from="erly")


def test_a_damaged_checkpoint_is_told_in_one_line(runs):
    about = runs / "early" / "checkpoints" / "step-000040" / "checkpoint.json"
    about.write_text(about.read_text()[:30])
    with pytest.raises(SettingsError, match=re.escape(f"{about} is damaged")):
        asked(runs)


def test_a_run_is_begun_or_resumed(runs):
    with pytest.raises(SettingsError, match="--init-from early begins a run.*nearest: ganfleet train --resume late"):
        asked(runs, resume="late")


def test_the_storage_may_come_from_a_file(runs, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"storage: {{path: {runs}}}\nname: late\n")
    line = CommandLine.of([], file, None, None, "early")
    assert train_request(line).experiment.family.width == 6
