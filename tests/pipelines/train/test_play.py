"""`play()` in this process: what it logs, draws and saves, how it resumes, and how it ends."""

import io
import json
import shutil
from itertools import takewhile

import pytest
import torch
from PIL import Image
from rich.console import Console

from gan_core import checkpoint, data
from gan_core.health.divergence import DivergedError
from gan_core.loop import Game
from pipelines.evaluate.reference import prepare_reference
from pipelines.runs._folder import RunFolder
from pipelines.tracking.target import flat
from pipelines.train.play import DueActions, play
from tests.pipelines.small_runs import DIVERGING, created, digest, evaluated, rows, small_train, timeless


def saved_steps(folder: RunFolder) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in folder.checkpoints()]


# A whole run: 12 rounds, logged every 2, evaluated every 4, saved every 3


def test_there_is_an_event_whenever_something_is_due(played):
    assert [logged.step for logged in played.steps] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [logged.step for logged in played.steps if "fid" in logged.metrics] == [4, 8, 12]
    assert [logged.step for logged in played.steps if logged.checkpoint] == [3, 6, 9, 12]
    assert {logged.last_step for logged in played.steps} == {12}
    assert [logged.images_seen for logged in played.steps] == [logged.step * 2 * 16 for logged in played.steps]


def test_the_file_of_metrics_holds_what_the_events_say(played):
    assert rows(played.folder.path) == [{"step": logged.step, **logged.metrics} for logged in played.steps]
    names = {"step", "images_seen", "loss/critic", "loss/generator", "images_per_second"}
    for row in rows(played.folder.path):
        assert names <= row.keys()
        assert row["images_per_second"] > 0
    first = rows(played.folder.path)[0].keys()
    assert {"wasserstein_estimate", "gradient_penalty"} <= first
    assert {f"{what}_norm/{who}" for what in ("gradient", "weight") for who in ("critic", "generator")} <= first
    assert all(("variety" in row) == ("fid" in row) for row in rows(played.folder.path))


def test_there_is_a_picture_of_each_evaluation_and_one_before_training(played):
    pictures = played.folder.pictures()
    assert [path.name for path in pictures] == [f"step-{step:06d}.png" for step in (0, 4, 8, 12)]
    contents = set()
    for path in pictures:
        content = path.read_bytes()
        picture = Image.open(io.BytesIO(content))
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "L")
        assert picture.size == (8 * 50 + 2, 8 * 50 + 2)  # 64 images of 8 pixels, six times enlarged
        contents.add(content)
    assert len(contents) == 4


def test_the_newest_three_checkpoints_stay(played):
    assert saved_steps(played.folder) == [6, 9, 12]
    assert [path.name for path in (played.folder.path / "checkpoints").iterdir() if path.name[0] == "."] == []
    assert played.steps[-1].checkpoint == str(played.folder.checkpoint(12))


def test_the_last_fid_is_that_of_the_final_checkpoint(played, storage):
    result = evaluated(played.folder.checkpoint(12), storage)
    assert result["fid"] == played.steps[-1].metrics["fid"]
    assert (result["step"], result["images_seen"], result["samples"]) == (12, 12 * 2 * 16, 200)
    assert result["family"] == "wgan_gp"
    assert result["fid.extractor"] == "classifier"
    assert evaluated(played.folder.checkpoint(9), storage)["fid"] != result["fid"]


# Resuming


def test_a_run_that_was_cut_off_goes_on_bit_for_bit(played, storage, reference):
    experiment = played.experiment.override("name=cut-off")
    folder = created(experiment)
    first = play(experiment, folder, reference, target=None)
    seen = list(takewhile(lambda logged: logged.step < 8, first))
    first.close()
    assert seen[-1].step == 6
    assert rows(folder.path)[-1]["step"] == 8, "one row is logged, and not in any checkpoint"

    again = list(play(experiment, folder, reference, target=None, start=folder.checkpoint(6)))
    assert [logged.step for logged in again] == [8, 9, 10, 12]
    straight = {logged.step: logged.metrics for logged in played.steps}
    for logged in again:
        assert timeless(logged.metrics) == timeless(straight[logged.step])
    assert [timeless(row) for row in rows(folder.path)] == [timeless(row) for row in rows(played.folder.path)]
    assert digest(folder.checkpoint(12)) == digest(played.folder.checkpoint(12))
    assert [path.read_bytes() for path in folder.pictures()] == [path.read_bytes() for path in played.folder.pictures()]


def test_a_raised_budget_goes_on_from_the_end(played, storage, reference):
    longer = played.experiment.override("budget.rounds=15")
    folder = RunFolder(storage / "longer")
    shutil.copytree(played.folder.path, folder.path)
    steps = list(play(longer, folder, reference, target=None, start=folder.checkpoint(12)))
    assert [(logged.step, logged.last_step) for logged in steps] == [(14, 15), (15, 15)]
    assert "fid" in steps[-1].metrics
    assert [row["step"] for row in rows(folder.path)] == [2, 3, 4, 6, 8, 9, 10, 12, 14, 15]


def test_a_finished_run_has_nothing_left_to_play(played, storage, reference):
    start = played.folder.checkpoint(12)
    before = (played.folder.path / "metrics.jsonl").read_bytes()
    assert list(play(played.experiment, played.folder, reference, target=None, start=start)) == []
    assert (played.folder.path / "metrics.jsonl").read_bytes() == before


def test_the_same_experiment_again_is_the_same_game(played, storage, reference):
    experiment = played.experiment.override("name=again")
    steps = list(play(experiment, created(experiment), reference, target=None))
    assert [timeless(logged.metrics) for logged in steps] == [timeless(logged.metrics) for logged in played.steps]


# Other games


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("gan", []),
        ("dcgan", []),
        ("wgan", ["compute.precision=fp64"]),
        ("wgan_gp", ["compute.precision=bf16"]),
        ("wgan_gp", ["budget.images=100", "budget.rounds=null", "family.n_critic=2"]),
        ("gan", ["data.name=ring8"]),
        ("wgan", ["data.name=grid25", "compute.precision=bf16"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
def test_other_games_are_played_to_their_end(storage, tmp_path, family, words):
    name = "-".join([family, *words]).replace("=", "-")
    words = ["budget.rounds=4", "budget.log_every=3", "budget.eval_every=2", *words]
    experiment = small_train(tmp_path, family, name, *words)
    folder = created(experiment)
    content = prepare_reference(experiment.metrics, data.load(experiment.data), storage, Console(quiet=True)).content
    steps = list(play(experiment, folder, content, target=None))
    assert [logged.step for logged in steps] == [2, 3, 4]
    assert [logged.step for logged in steps if "fid" in logged.metrics] == [2, 4]
    assert rows(folder.path) == [{"step": logged.step, **logged.metrics} for logged in steps]
    assert saved_steps(folder) == [4]
    size = (512, 512) if "data.name" in name else (402, 402)
    assert [Image.open(path).size for path in folder.pictures()] == [size, size, size]
    if "precision-bf16" not in name:
        return
    exact = small_train(tmp_path, family, f"{name}-exact", *words, "compute.precision=fp32")
    others = list(play(exact, created(exact), content, target=None))
    assert others[-1].metrics["loss/critic"] != steps[-1].metrics["loss/critic"]
    assert others[-1].metrics["fid"] == pytest.approx(steps[-1].metrics["fid"], rel=0.2)


# Divergence


def test_settings_that_diverge_end_the_game_at_the_logged_step(storage, tmp_path):
    words = [*DIVERGING, "budget.rounds=80", "budget.log_every=4", "budget.eval_every=4"]
    experiment = small_train(tmp_path, "gan", "diverges", *words)
    folder = created(experiment)
    content = prepare_reference(experiment.metrics, data.load(experiment.data), storage, Console(quiet=True)).content
    with pytest.raises(DivergedError) as caught:
        list(play(experiment, folder, content, target=None))
    logged = rows(folder.path)
    assert logged, "it went well for a while"
    assert logged[-1]["step"] < caught.value.step <= logged[-1]["step"] + 4
    assert caught.value.what.startswith(("loss/", "gradient_norm/"))
    assert len(folder.pictures()) == 1 + len(logged)


def damaged(played, folder: RunFolder, net: str) -> RunFolder:
    """A copy of the run at step 6 in which one weight of `net` is NaN, saved as a checkpoint."""
    folder.path.mkdir(parents=True)
    shutil.copyfile(played.folder.experiment, folder.experiment)
    game = Game(played.experiment, data.load(played.experiment.data).shape)
    checkpoint.load(game, played.folder.checkpoint(6))
    with torch.no_grad():
        next(getattr(game, net).parameters()).view(-1)[0] = float("nan")
    checkpoint.save(game, folder.checkpoint(6))
    return folder


@pytest.mark.parametrize("net", ["generator", "average"])
def test_a_number_lost_on_the_way_ends_the_game_and_is_not_logged(played, reference, tmp_path, net):
    """A NaN in the generator makes a loss NaN in the next round. A NaN in its average is found with the next row."""
    folder = damaged(played, RunFolder(tmp_path / net), net)
    with pytest.raises(DivergedError) as caught:
        list(play(played.experiment, folder, reference, target=None, start=folder.checkpoint(6)))
    said = {"generator": "loss/critic is nan at step 7", "average": "average/generator is nan at step 8"}
    assert str(caught.value) == said[net]
    assert rows(folder.path) == []
    assert saved_steps(folder) == [6]


def test_a_damaged_checkpoint_is_not_gone_on_from(played, reference, tmp_path):
    folder = RunFolder(tmp_path / "damaged")
    shutil.copytree(played.folder.path, folder.path)
    state = folder.checkpoint(12) / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"?")
    with pytest.raises(checkpoint.CheckpointError, match="sha256"):
        next(play(played.experiment, folder, reference, target=None, start=folder.checkpoint(12)))


# Warning signs


STARVING = (
    *("family.loss=minimax", "family.n_critic=10", "family.lr=1e-3"),
    *("family.width=64", "family.critic_width=64", "budget.rounds=90"),
)


def test_a_warning_sign_is_told_once_with_what_to_try_and_again_after_a_resumption(storage, reference, tmp_path):
    """The minimax game of gan, with ten critic steps a round and a log every 10 rounds."""
    words = [*STARVING, "budget.log_every=10", "budget.eval_every=90", "budget.checkpoint_every=70"]
    experiment = small_train(tmp_path, "gan", "starves", *words)
    folder = created(experiment)
    steps = list(play(experiment, folder, reference, target=None))
    seen = {sign.name: (logged.step, sign) for logged in steps for sign in logged.signs}
    assert sum(len(logged.signs) for logged in steps) == len(seen), "each once"
    step, sign = seen["gradient_starvation"]
    assert 20 <= step <= 90
    assert "family.loss=non_saturating" in sign.advice
    tags = json.loads((folder.path / "tags.json").read_text())
    assert tags.keys() == {f"ganfleet.sign.{name}" for name in seen}
    assert tags["ganfleet.sign.gradient_starvation"] == f"step {step}: {sign.seen}; {sign.advice}"

    again = list(play(experiment, folder, reference, target=None, start=folder.checkpoint(70)))
    assert [(logged.step, {sign.name for sign in logged.signs}) for logged in again] == [(80, set()), (90, seen.keys())]
    tags = json.loads((folder.path / "tags.json").read_text())
    assert tags["ganfleet.sign.gradient_starvation"].startswith("step 90: ")


def test_a_game_that_goes_well_has_none(played):
    assert [logged.signs for logged in played.steps] == [()] * len(played.steps)
    assert not (played.folder.path / "tags.json").exists()


# Small parts


@pytest.mark.parametrize(
    ("step", "due"),
    [
        (1, (False, False, False)),
        (2, (True, False, False)),
        (3, (False, True, False)),
        (6, (True, True, False)),
        (10, (True, False, True)),
        (30, (True, True, True)),
        (31, (True, True, True)),
        (32, (True, False, False)),
    ],
)
def test_what_is_due(tmp_path, step, due):
    words = ["budget.log_every=2", "budget.eval_every=3", "budget.checkpoint_every=10"]
    experiment = small_train(tmp_path, "wgan", "x", *words)
    found = DueActions.at(step, experiment, last_step=31)
    assert (found.log, found.evaluation, found.checkpoint) == due
    assert found.any == any(due)


def test_params_are_dotted_paths_without_empty_ones():
    tree = {"seed": 0, "family": {"name": "wgan", "lr": 0.1}, "budget": {"images": None, "rounds": 5}, "none": {}}
    assert flat(tree) == {"seed": 0, "family.name": "wgan", "family.lr": 0.1, "budget.rounds": 5}


OWN = "tests.gan_core.two_ranks"


def test_other_measures_are_in_the_rows_of_evaluations_and_change_nothing_else(storage, reference):
    found = {}
    for name, words in (("plain", ()), ("measured", (f"metrics.measures=[precision,{OWN}:ink]",))):
        experiment = small_train(storage, "wgan", name, "budget.rounds=4", "budget.eval_every=2", *words)
        folder = created(experiment)
        list(play(experiment, folder, reference, target=None))
        found[name] = [timeless(row) for row in rows(folder.path)], digest(folder.checkpoint(4))
    (plain, state), (measured, same) = found["plain"], found["measured"]
    assert same == state
    assert all({"precision", "ink"} <= row.keys() for row in measured if "fid" in row)
    assert [
        {name: value for name, value in row.items() if name not in ("precision", "ink")} for row in measured
    ] == plain


def test_a_measure_that_raises_ends_the_game_as_diverged_and_is_named(storage, reference):
    words = ("budget.rounds=4", "budget.eval_every=2", f"metrics.measures={OWN}:broken")
    experiment = small_train(storage, "wgan", "unmeasured", *words)
    with pytest.raises(DivergedError, match="^broken cannot be computed at step 2: RuntimeError: no such thing$"):
        list(play(experiment, created(experiment), reference, target=None))
