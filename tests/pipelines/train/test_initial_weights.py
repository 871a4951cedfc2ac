"""A run that begins with the weights of another: what it takes, and that it survives a restart."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from gan_core import checkpoint, data
from gan_core.settings import SettingsError
from pipelines.runs import INIT_FROM
from pipelines.runs._folder import RunFolder
from pipelines.settings._experiments import TrainExperiment
from pipelines.train._initial_weights import write_initial_checkpoint
from pipelines.train.play import play, resume_checkpoint
from tests.pipelines.small_runs import digest, rows, small_train

WORDS = (
    "family.n_critic=2",
    "budget.rounds=4",
    "budget.log_every=1",
    "budget.eval_every=4",
    "budget.checkpoint_every=2",
)


def begun(storage, name: str, origin, *words: str, family: str = "wgan_gp") -> tuple[TrainExperiment, RunFolder]:
    experiment = small_train(storage, family, name, *WORDS, *words)
    folder = RunFolder(experiment.folder)
    folder.create(experiment.to_yaml(), {INIT_FROM: str(origin)})
    return experiment, folder


def test_it_begins_at_step_zero_with_the_networks_and_averages_and_nothing_else(played, tmp_path):
    origin = played.folder.checkpoint(12)
    experiment, folder = begun(tmp_path, "fine", origin, "seed=5")
    write_initial_checkpoint(experiment, folder, data.load(experiment.data))
    assert checkpoint.describe(folder.checkpoint(0))["step"] == 0
    theirs, ours = (load_file(one / "state.safetensors") for one in (origin, folder.checkpoint(0)))
    assert {key for key in theirs if "/optimizer/" not in key} == set(ours)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_it_plays_on_from_them_and_resumes_like_any_run(played, reference, tmp_path):
    """A run that died before its first checkpoint begins with the same weights, although the other run is gone."""
    origin = tmp_path / "origin"
    shutil.copytree(played.folder.checkpoint(12), origin)
    finals = []
    for name in ("straight", "killed"):
        experiment, folder = begun(tmp_path, name, origin, "data.batch_size=8")
        write_initial_checkpoint(experiment, folder, data.load(experiment.data))
        if name == "killed":
            shutil.rmtree(origin)
            steps = play(experiment, folder, reference, target=None, start=resume_checkpoint(folder))
            assert next(steps).step == 1
            steps.close()
            write_initial_checkpoint(experiment, folder, data.load(experiment.data))
        list(play(experiment, folder, reference, target=None, start=resume_checkpoint(folder)))
        assert [row["step"] for row in rows(folder.path)] == [1, 2, 3, 4]
        finals.append(digest(folder.checkpoint(4)))
    assert finals[0] == finals[1]


def test_a_run_that_has_a_checkpoint_keeps_it(played, tmp_path):
    experiment, folder = begun(tmp_path, "older", played.folder.checkpoint(12))
    shutil.copytree(played.folder.checkpoint(6), folder.checkpoint(6))
    write_initial_checkpoint(experiment, folder, data.load(experiment.data))
    assert [path.name for path in folder.checkpoints()] == ["step-000006"]


def test_weights_that_do_not_fit_the_data_are_refused_in_one_line(played, tmp_path):
    origin = played.folder.checkpoint(12)
    experiment, folder = begun(tmp_path, "colour", origin, "data.name=photos")
    with pytest.raises(SettingsError, match=r"are for samples of 1x8x8 in 10 classes .* not for samples of 3x8x8 in"):
        write_initial_checkpoint(experiment, folder, data.load(experiment.data))
    assert folder.checkpoints() == []


def test_weights_that_are_gone_are_named(tmp_path):
    experiment, folder = begun(tmp_path, "lost", tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="nowhere is no checkpoint"):
        write_initial_checkpoint(experiment, folder, data.load(experiment.data))


def test_a_run_that_is_refused_later_leaves_no_weights_behind(played, tmp_path):
    experiment, folder = begun(tmp_path, "refused", played.folder.checkpoint(12))
    write_initial_checkpoint(experiment, folder, data.load(experiment.data))
    folder.withdraw()
    assert not folder.path.exists()
