"""Steps whose evaluations end later: all are logged in order, and no checkpoint is ahead of the log."""

import shutil
from dataclasses import dataclass, field

import pytest
import torch

from gan_core.health.divergence import DivergedError
from gan_core.loop import Game
from infra.tracker import FolderTracker
from pipelines.runs._folder import RunFolder
from pipelines.train.logged_steps import LoggedStep, LoggedSteps
from pipelines.train.play import play, resume_checkpoint
from tests.pipelines.small_runs import created, rows, small_train, timeless


@dataclass
class Slow:
    """An evaluation that ends when the test says so."""

    found: dict[str, float] | ValueError
    ended: bool = False

    def ready(self) -> bool:
        return self.ended

    def result(self) -> dict[str, float]:
        if isinstance(self.found, ValueError):
            raise self.found
        return self.found


class Blind:
    """Sees no signs."""

    def see(self, step, metrics):
        return ()


def logged_step(step: int) -> LoggedStep:
    return LoggedStep(step, 9, 10 * step, {"loss/critic": float(step)}, None)


def test_a_row_waits_for_its_evaluation_and_those_after_it_for_the_row(tmp_path):
    waiting = LoggedSteps(FolderTracker(tmp_path), Blind())
    slow = Slow({"fid": 7.0})
    for step, pending in ((1, None), (2, slow), (3, None)):
        waiting.add(logged_step(step), pending)
    assert [one.step for one in waiting.log(wait=False)] == [1]
    assert [row["step"] for row in rows(tmp_path)] == [1]
    slow.ended = True
    assert [one.step for one in waiting.log(wait=False)] == [2, 3]
    assert rows(tmp_path)[1] == {"step": 2, "loss/critic": 2.0, "fid": 7.0}
    assert list(waiting.log(wait=True)) == []


def test_at_the_end_all_are_waited_for(tmp_path):
    waiting = LoggedSteps(FolderTracker(tmp_path), Blind())
    waiting.add(logged_step(1), Slow({"fid": 7.0}))
    waiting.add(logged_step(2), None)
    assert [one.metrics.get("fid") for one in waiting.log(wait=True)] == [7.0, None]


def test_an_evaluation_that_finds_no_number_ends_the_game(tmp_path):
    waiting = LoggedSteps(FolderTracker(tmp_path), Blind())
    waiting.add(logged_step(4), Slow(ValueError("features hold 3 values that are not finite")))
    with pytest.raises(DivergedError, match="at step 4: features hold 3 values"):
        list(waiting.log(wait=True))
    assert rows(tmp_path) == []


@dataclass
class Later:
    """An evaluation of it ends when the next one but one begins."""

    begun: list[tuple[int, Slow]] = field(default_factory=list)
    game: Game | None = None

    def begin(self, game: Game) -> Slow:
        self.game = game
        for _, pending in self.begun[:-1]:
            pending.ended = True
        self.begun.append((game.step, Slow({"fid": float(game.step)})))
        return self.begun[-1][1]


WORDS = ("metrics.async=true", "budget.rounds=12", "budget.log_every=1", "budget.eval_every=2")


def test_a_crash_before_an_evaluation_ends_loses_no_row(storage, reference):
    """The row of the newest checkpoint still waits, so the run resumes from the checkpoint before."""
    experiment = small_train(storage, "wgan", "late", *WORDS, "budget.checkpoint_every=4")
    folder = created(experiment)
    steps = play(experiment, folder, reference, target=None, async_evaluator=Later())
    for one in steps:
        if one.step == 7:
            break
    steps.close()
    saved = [int(path.name[5:]) for path in folder.checkpoints()]
    logged = [row["step"] for row in rows(folder.path)]
    assert logged == list(range(1, logged[-1] + 1))
    start = resume_checkpoint(folder)
    assert start is not None
    assert int(start.name[5:]) == max(step for step in saved if step <= logged[-1])

    list(play(experiment, folder, reference, target=None, start=start, async_evaluator=Later()))
    assert [row["step"] for row in rows(folder.path)] == list(range(1, 13))
    assert {row["step"]: row["fid"] for row in rows(folder.path) if "fid" in row} == {
        s: float(s) for s in range(2, 13, 2)
    }

    straight = created(experiment.override("name=straight"))
    list(play(experiment.override("name=straight"), straight, reference, target=None, async_evaluator=Later()))
    assert [timeless(row) for row in rows(folder.path)] == [timeless(row) for row in rows(straight.path)]


def test_no_checkpoint_is_saved_while_an_earlier_row_waits(storage, reference):
    experiment = small_train(storage, "wgan", "waits", *WORDS, "budget.checkpoint_every=3")
    folder = created(experiment)
    for one in play(experiment, folder, reference, target=None, async_evaluator=Later()):
        if one.checkpoint is not None:
            assert folder.logged() == one.step


def test_where_nothing_is_logged_a_run_begins_anew(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoint(5).mkdir(parents=True)
    FolderTracker(tmp_path)
    assert folder.logged() == 0
    assert resume_checkpoint(folder) is None


def test_checkpoints_without_any_log_are_gone_on_from(played, tmp_path):
    folder = RunFolder(tmp_path)
    shutil.copytree(played.folder.checkpoint(12), folder.checkpoint(12))
    assert folder.logged() is None
    assert resume_checkpoint(folder) == folder.checkpoint(12)


def test_the_last_step_of_a_log_that_a_crash_cut_off(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n{"step": 6}\n{"st')
    assert RunFolder(tmp_path).logged() == 6


def test_what_was_sound_is_logged_before_a_game_that_diverged_ends(storage, reference):
    """A loss becomes NaN while an evaluation still runs."""
    experiment = small_train(storage, "wgan", "spoilt", *WORDS, "budget.checkpoint_every=12")
    folder = created(experiment)
    later = Later()
    steps = play(experiment, folder, reference, target=None, async_evaluator=later)
    assert [next(steps).step for _ in range(3)] == [1, 2, 3]
    with torch.no_grad():
        next(later.game.generator.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(DivergedError, match="at step 5"):
        list(steps)
    assert [row["step"] for row in rows(folder.path)] == [1, 2, 3, 4]
    assert rows(folder.path)[3]["fid"] == 4.0
