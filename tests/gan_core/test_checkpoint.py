import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from pydantic import Field

from gan_core import checkpoint
from gan_core.checkpoint import ABOUT, STATE, CheckpointError
from gan_core.experiment import Compute, Experiment
from gan_core.family import family_names
from tests.gan_core.games import asked, new_game, play, small, state, tiered


@pytest.fixture(scope="module")
def game():
    game = new_game(small("wgan_gp"))
    play(game, 2)
    return game


@pytest.fixture
def folder(game, tmp_path):
    return checkpoint.save(game, tmp_path / "step-2")


def refusal(call, *args) -> str:
    with pytest.raises(CheckpointError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Contents


@pytest.mark.parametrize("name", tiered())
def test_a_checkpoint_is_opened_as_the_game_it_was(name, tmp_path):
    game = new_game(small(name, "seed=5"))
    play(game, 2)
    folder = checkpoint.save(game, tmp_path / "a" / "b")
    again = checkpoint.open_game(folder)
    assert again.experiment == game.experiment
    assert (again.step, again.images_seen, again.shape) == (2, game.images_seen, game.shape)
    assert again.classes == game.classes > 1
    given = asked(game, 7)
    assert torch.equal(again.sample(*given), game.sample(*given))
    before, after = state(game), state(again)
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_a_checkpoint_is_two_files_without_pickle(folder):
    assert set(content(folder)) == {STATE, ABOUT}
    about = checkpoint.describe(folder)
    assert (about["step"], about["images_seen"], about["shape"]) == (2, 2 * 5 * 16, [1, 16, 16])
    assert about["experiment"]["family"]["name"] == "wgan_gp"
    written = json.loads((folder / ABOUT).read_text())
    assert written.keys() - about.keys() == {"digest"}
    assert about.items() <= written.items()


def test_a_game_that_has_not_begun_can_be_saved(tmp_path):
    game = new_game(small("wgan"))
    again = checkpoint.open_game(checkpoint.save(game, tmp_path / "new"))
    play(again, 1)
    play(game, 1)
    before, after = state(game), state(again)
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_a_checkpoint_that_tells_no_number_of_classes_is_of_one_class(folder):
    about = checkpoint.describe(folder)
    del about["classes"]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    (folder / ABOUT).write_text(json.dumps({**about, "digest": digest}))
    assert checkpoint.open_game(folder).classes == 1


class Workers(Compute):
    workers: int = Field(default=1, ge=1)


class Run(Experiment):
    name: str = "a run"
    compute: Workers = Workers()


def test_an_extended_experiment_leaves_a_checkpoint_that_gan_core_can_open(tmp_path):
    run = Run.load(small("wgan").model_dump()).override("compute.workers=2", "name=mine", "compute.precision=fp64")
    game = new_game(run)
    play(game, 1)
    again = checkpoint.open_game(checkpoint.save(game, tmp_path / "here"))
    assert again.experiment == small("wgan", "compute.precision=fp64")


# Damaged or missing checkpoints, and those of other games


@pytest.mark.parametrize("where", [0, 9, 200, -1])
def test_a_damaged_byte_of_the_state_is_refused(game, folder, where):
    damaged = bytearray((folder / STATE).read_bytes())
    damaged[where] ^= 1
    (folder / STATE).write_bytes(bytes(damaged))
    for message in (refusal(checkpoint.open_game, folder), refusal(checkpoint.load, game, folder)):
        assert str(folder) in message
        assert "damaged" in message


@pytest.mark.parametrize("keep", [0, 100])
def test_a_state_cut_short_is_refused(folder, keep):
    (folder / STATE).write_bytes((folder / STATE).read_bytes()[:keep])
    assert str(folder) in refusal(checkpoint.open_game, folder)


@pytest.mark.parametrize("name", [STATE, ABOUT])
def test_a_missing_file_is_refused(game, folder, name):
    (folder / name).unlink()
    assert str(folder) in refusal(checkpoint.open_game, folder)
    assert str(folder) in refusal(checkpoint.load, game, folder)


def test_no_folder_is_no_checkpoint(game, tmp_path):
    assert str(tmp_path / "nowhere") in refusal(checkpoint.describe, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in refusal(checkpoint.load, game, tmp_path / "nowhere")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"null", b'{"step": 3}', b'{"step": "\xff"}'])
def test_a_damaged_description_is_refused(folder, text):
    (folder / ABOUT).write_bytes(text)
    assert str(folder) in refusal(checkpoint.open_game, folder)


@pytest.mark.parametrize(("right", "wrong"), [('"step": 2', '"step": 3'), ('"name": "wgan_gp"', '"name": "wgan_gq"')])
def test_a_description_that_was_changed_is_refused(folder, right, wrong):
    text = (folder / ABOUT).read_text()
    assert right in text
    (folder / ABOUT).write_text(text.replace(right, wrong))
    assert str(folder) in refusal(checkpoint.open_game, folder)


@pytest.mark.parametrize("other", [name for name in family_names() if name != "wgan_gp"])
def test_a_checkpoint_of_another_family_is_refused(folder, other):
    game = new_game(small(other))
    assert str(folder) in refusal(checkpoint.load, game, folder)


@pytest.mark.parametrize("assignment", ["family.width=8", "family.latent=9", "data.image_size=8", "data.name=ring8"])
def test_a_checkpoint_of_other_shapes_is_refused(folder, assignment):
    game = new_game(small("wgan_gp", assignment))
    assert str(folder) in refusal(checkpoint.load, game, folder)


def test_learning_rates_are_the_experiments_not_the_checkpoints(folder):
    game = new_game(small("wgan_gp", "family.lr=0.01", "family.beta2=0.5"))
    checkpoint.load(game, folder)
    for optimizer in game.optimizers.values():
        assert [(group["lr"], group["betas"]) for group in optimizer.param_groups] == [(0.01, (0.0, 0.5))]


# Atomic replacement


def test_saving_again_replaces_the_folder(game, folder):
    old = content(folder)
    other = new_game(small("gan"))
    checkpoint.save(other, folder)
    assert content(folder) != old
    assert checkpoint.describe(folder)["experiment"]["family"]["name"] == "gan"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("function", ["write_bytes", "write_text"])
def test_a_save_that_runs_out_of_space_leaves_the_old_checkpoint(folder, monkeypatch, function):
    old = content(folder)

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, function, fail)
        with pytest.raises(OSError, match="no space left"):
            checkpoint.save(new_game(small("gan")), folder)
    assert content(folder) == old
    assert checkpoint.open_game(folder).step == 2
    assert list(folder.parent.iterdir()) == [folder]


def test_a_save_that_cannot_be_moved_into_place_leaves_the_old_checkpoint(folder, monkeypatch):
    old = content(folder)
    refused = []

    def once(move):
        def refuse_the_first(source, target):
            if Path(target) == folder and not refused:
                refused.append(source)
                raise PermissionError("cannot be moved")
            move(source, target)

        return refuse_the_first

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", once(os.replace))
        broken.setattr(os, "rename", once(os.rename))
        with pytest.raises(PermissionError, match="cannot be moved"):
            checkpoint.save(new_game(small("gan")), folder)
    assert folder.is_dir(), "the old checkpoint was removed before the new one was in place"
    assert content(folder) == old
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_can_be_read_by_others_like_any_new_folder(folder):
    (folder.parent / "plain").mkdir()
    assert folder.stat().st_mode == (folder.parent / "plain").stat().st_mode
