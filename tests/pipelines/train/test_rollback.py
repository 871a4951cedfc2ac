"""`reliability.on_divergence=rollback`: a game that diverges goes back to its last checkpoint with lower rates."""

import json
import re
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from gan_core import checkpoint, data
from gan_core.health.divergence import DivergedError
from gan_core.settings import SettingsError
from pipelines.evaluate.reference import prepare_reference
from pipelines.runs._folder import RunFolder
from pipelines.settings._capacity import worker_resources
from pipelines.settings._experiments import TrainExperiment
from pipelines.tracking.runs import prepare_tracking, run_target
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import play, resume_checkpoint
from pipelines.train.rollback import play_with_rollbacks
from pipelines.train.worker_group import GroupTask, run_group
from tests.pipelines.small_runs import (
    DIVERGING,
    client_of,
    created,
    digest,
    history,
    named,
    rows,
    small_train,
    timeless,
)

ROUNDS = 24
WORDS = (
    *DIVERGING,
    *(f"budget.rounds={ROUNDS}", "budget.log_every=2", "budget.eval_every=6", "budget.checkpoint_every=3"),
    *("metrics.extractor=pixels", "metrics.samples=64"),
    *("reliability.on_divergence=rollback", "reliability.rollback_lr_factor=0.01", "reliability.rollbacks=4"),
)


@pytest.fixture(scope="module")
def points(storage) -> bytes:
    """The reference statistics of these runs."""
    experiment = small_train(storage, "gan", "points", *WORDS)
    real = data.load(experiment.data)
    return prepare_reference(experiment.metrics, real, storage, Console(quiet=True)).content


def steps_of(experiment: TrainExperiment, folder: RunFolder, reference: bytes) -> Generator[LoggedStep, None, None]:
    """Plays as a run does that begins or resumes."""

    def begin() -> Generator[LoggedStep, None, None]:
        return play(experiment, folder, reference, target=None, start=resume_checkpoint(folder))

    return play_with_rollbacks(experiment.reliability, folder, begin)


def counts(folder: Path) -> list[int]:
    return [int(row.get("rollbacks", 0)) for row in rows(folder)]


@pytest.fixture(scope="module")
def rolled(storage, points) -> tuple[TrainExperiment, RunFolder, Sequence[LoggedStep]]:
    """A run that diverges and comes to its end."""
    experiment = small_train(storage, "gan", "rolled", *WORDS)
    folder = created(experiment)
    return experiment, folder, list(steps_of(experiment, folder, points))


def test_a_run_that_diverges_comes_to_its_end_with_lower_rates(rolled):
    experiment, folder, steps = rolled
    assert steps[-1].step == ROUNDS
    game = checkpoint.open_game(folder.checkpoint(ROUNDS))
    assert 1 <= game.rollbacks <= 4
    rates = {group["lr"] for optimizer in game.optimizers.values() for group in optimizer.param_groups}
    assert len(rates) == 1
    assert rates.pop() == pytest.approx(experiment.family.lr * 0.01**game.rollbacks)


def test_a_step_has_one_row_that_says_how_often_the_game_had_rolled_back(rolled):
    _, folder, _ = rolled
    logged = rows(folder.path)
    assert [row["step"] for row in logged] == sorted({row["step"] for row in logged})
    assert counts(folder.path) == sorted(counts(folder.path))
    assert (
        counts(folder.path)[-1] == json.loads((folder.checkpoint(ROUNDS) / "checkpoint.json").read_text())["rollbacks"]
    )


def test_each_rollback_is_told_on_the_screen_and_in_the_tags(rolled):
    _, folder, steps = rolled
    notes = [one.rollback for one in steps if one.rollback]
    tags = json.loads((folder.path / "tags.json").read_text())
    assert [tags[f"ganfleet.rollback.{number}"] for number in range(1, len(notes) + 1)] == notes
    for number, note in enumerate(notes, start=1):
        assert f"learning rates times {0.01**number:g} (rollback {number} of 4)" in note


def test_a_picture_belongs_to_the_row_of_its_step(rolled, storage, points):
    """A step that is played again after a rollback keeps the picture that its row was logged with."""
    straight = small_train(storage, "gan", "first-part", *WORDS[: len(DIVERGING) + 6])
    folder = created(straight)
    with pytest.raises(DivergedError):
        list(play(straight, folder, points, target=None))
    for picture in folder.pictures():
        assert rolled[1].picture(int(picture.stem[5:])).read_bytes() == picture.read_bytes()


def test_a_run_that_was_killed_after_a_rollback_resumes_with_it(rolled, storage, points):
    experiment, whole, _ = rolled
    again = experiment.override("name=killed")
    folder = created(again)
    steps = steps_of(again, folder, points)
    for logged in steps:
        if logged.rollback:
            break
    steps.close()
    assert [one.rollback for one in steps_of(again, folder, points) if one.rollback] == [
        one.rollback for one in rolled[2] if one.rollback
    ][1:]
    assert digest(folder.checkpoint(ROUNDS)) == digest(whole.checkpoint(ROUNDS))
    assert [timeless(row) for row in rows(folder.path)] == [timeless(row) for row in rows(whole.path)]


def test_two_workers_roll_back_as_one_does(ray_cluster, rolled, points, storage):
    experiment = rolled[0].override("name=pair", "compute.workers=2", "compute.cpus=1")
    folder = created(experiment)
    target = run_target(experiment, prepare_tracking(experiment), folder, {})
    task = GroupTask(experiment, folder, points, target, worker_resources(experiment, ray_cluster))
    steps = list(play_with_rollbacks(experiment.reliability, folder, lambda: run_group(task)))
    assert [one.rollback for one in steps if one.rollback] == [one.rollback for one in rolled[2] if one.rollback]
    assert [one.step for one in steps] == [one.step for one in rolled[2]]
    assert counts(folder.path) == counts(rolled[1].path)
    recorded = history(client_of(storage), named(client_of(storage), "pair"))
    assert [row.get("rollbacks", 0) for _, row in sorted(recorded.items())] == counts(folder.path)


def test_after_the_last_rollback_the_run_ends(storage, points):
    words = [*WORDS, "reliability.rollbacks=2", "reliability.rollback_lr_factor=1"]
    experiment = small_train(storage, "gan", "hopeless", *words)
    folder = created(experiment)
    with pytest.raises(DivergedError, match=r"at step \d+ after 2 rollbacks$") as caught:
        list(steps_of(experiment, folder, points))
    last = resume_checkpoint(folder)
    assert caught.value.checkpoint == str(last)
    assert checkpoint.describe(last)["rollbacks"] == 2


def test_a_checkpoint_from_which_the_game_diverges_twice_is_given_up(storage, points):
    """With equal rates it diverges again and again, two checkpoints on from the first."""
    experiment = small_train(storage, "gan", "doomed", *WORDS, "reliability.rollback_lr_factor=1")
    folder, steps = created(experiment), []
    with pytest.raises(DivergedError, match="after 4 rollbacks"):
        steps.extend(steps_of(experiment, folder, points))
    back = [re.search(r"back to step (\d+),", one.rollback)[1] for one in steps if one.rollback]
    assert back == ["3", "0", "3", "0"]
    assert [row["step"] for row in rows(folder.path)] == [2, 3, 4]


def test_a_game_that_diverges_before_its_first_checkpoint_begins_again(storage, points):
    experiment = small_train(storage, "gan", "early", *WORDS, "budget.checkpoint_every=500")
    folder = created(experiment)
    steps = list(steps_of(experiment, folder, points))
    assert steps[-1].step == ROUNDS
    assert "back to step 0," in next(one.rollback for one in steps if one.rollback)


def test_without_rollbacks_a_run_ends_and_names_its_last_checkpoint(storage, points):
    experiment = small_train(storage, "gan", "stops", *WORDS[: len(DIVERGING) + 6])
    folder = created(experiment)
    with pytest.raises(DivergedError) as caught:
        list(steps_of(experiment, folder, points))
    assert caught.value.checkpoint == str(folder.checkpoints()[-1])
    assert checkpoint.is_whole(folder.checkpoints()[-1])
    assert "ganfleet.rollback.1" not in (folder.path / "tags.json").read_text()


def test_a_run_that_stopped_may_resume_with_rollbacks(storage, points):
    experiment = small_train(storage, "gan", "stopped", *WORDS[: len(DIVERGING) + 6])
    folder = created(experiment)
    with pytest.raises(DivergedError):
        list(steps_of(experiment, folder, points))
    steps = list(steps_of(small_train(storage, "gan", "stopped", *WORDS), folder, points))
    assert steps[-1].step == ROUNDS
    assert steps[0].step > 1


def test_a_copy_of_a_checkpoint_with_rollbacks_is_whole(rolled, tmp_path):
    shutil.copytree(rolled[1].checkpoint(ROUNDS), tmp_path / "copy")
    assert checkpoint.is_whole(tmp_path / "copy")


def test_settings_that_have_no_meaning_are_refused(tmp_path):
    with pytest.raises(
        SettingsError, match="reliability.rollbacks=5 has no meaning.*nearest: reliability.on_divergence"
    ):
        small_train(tmp_path, "gan", "x", "reliability.rollbacks=5")
    with pytest.raises(SettingsError, match="reliability.rollback_lr_factor=1.5 is out of range.*nearest:.*=1.0"):
        small_train(tmp_path, "gan", "x", "reliability.rollback_lr_factor=1.5")
