"""A trial as a Tune trainable. A step of Tune is one evaluation, and a checkpoint of Tune is a pointer to ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ray import tune

from gan_core import checkpoint
from gan_core.health.collapse import CollapseDetector
from gan_core.health.divergence import DivergedError
from gan_core.settings import SettingsError
from pipelines.code import opened
from pipelines.runs import FullDiskError, Pointer, TakenOverError, as_full_disk_error, pointer_file, sweep_folder
from pipelines.search.trials._exploit import exploit
from pipelines.search.trials.context import SearchContext
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import play
from pipelines.train.rollback import play_with_rollbacks
from pipelines.train.worker_group import GroupTask, run_group

FAILED = "failed"
"""A field of a result: why the trial failed. Tune ends such a trial as a completed one, so it keeps the actor and does
not retry: the same settings would fail again. Under population-based training a trial that diverged is not done: it
takes the weights of another. A trial whose search another driver has taken over ends the same way. It does not count as
failed, because this driver can no longer write to the journal."""

FULL_DISK = "full_disk"
"""A field of a result: the disk is full. No trial can be saved, so the search ends."""


class Trial(tune.Trainable):
    """Plays a single-worker trial in this actor, which the next trial reuses. A trial of several workers is a worker
    group of Ray Train, and this actor only passes on its steps."""

    _steps: Generator[LoggedStep, None, None] | None = None

    def setup(self, config: dict[str, Any], context: Any = None) -> None:
        """Called once per actor, with a SearchContext that may be sealed. `reset_config` starts each further trial."""
        self._context: SearchContext = opened(context)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts a trial at its first round."""
        self.cleanup()
        self._settings = new_config["settings"]
        self._experiment = self._context.experiment.trial(self._settings, new_config.get("seed"))
        self._folder = self._context.folder.trial(self.trial_id)
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._folder.experiment.write_text(self._experiment.to_yaml())
        self._reported = 0
        self._signs: list[str] = []
        self._collapse: CollapseDetector | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Plays to the next evaluation, or to a failure."""
        try:
            with as_full_disk_error(self._experiment.storage), self._sole_writer():
                if self._steps is None:
                    self._steps = play_with_rollbacks(self._experiment.reliability, self._folder, self._play)
                logged = next(logged for logged in map(self._with_signs, self._steps) if self._is_next(logged))
        except DivergedError as error:
            return {**self._last(FAILED, f"diverged: {error}"), "done": not self._context.exploits}
        except (SettingsError, StopIteration, TakenOverError) as error:
            return self._last(FAILED, _why(error))
        except FullDiskError as error:
            return self._last(FULL_DISK, str(error))
        self._reported = logged.step
        collapsed = self._collapsed(logged)
        return {
            **logged.metrics,
            "training_iteration": -(-logged.step // self._experiment.budget.eval_every),
            "signs": ", ".join(self._signs),
            "step": logged.step,
            "last_step": logged.last_step,
            "done": bool(collapsed) or logged.step >= logged.last_step,
            "should_checkpoint": True,
            **({FAILED: f"collapsed: {collapsed}"} if collapsed else {}),
        }

    def _last(self, field: str, why: str) -> dict[str, Any]:
        self.cleanup()
        objective = self._context.experiment.objective
        return {"step": self._reported, objective.name: objective.failure, "done": True, field: why}

    def _is_next(self, logged: LoggedStep) -> bool:
        return "fid" in logged.metrics and logged.step > self._reported

    def _with_signs(self, logged: LoggedStep) -> LoggedStep:
        found = [*(["rollback"] if logged.rollback else []), *(sign.name for sign in logged.signs)]
        self._signs += [name for name in found if name not in self._signs]
        return logged

    def _collapsed(self, logged: LoggedStep) -> str:
        """Why the samples count as collapsed for good, by all evaluations of this trial; empty if they do not."""
        if self._collapse is None:
            self._collapse = CollapseDetector(logged.last_step)
            for row in self._folder.rows():
                if row["step"] < logged.step:
                    self._collapse.see(int(row["step"]), row)
        return self._collapse.see(logged.step, logged.metrics)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes the step for Tune. The weights are in the trial's own folder."""
        Pointer(self.trial_id, self._reported, ", ".join(self._signs)).write(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Resumes at the pointer. Later steps of this trial were never reported and are discarded.

        A pointer to another trial is an exploit: this trial takes the other's weights and optimizer state, and keeps
        its own settings.
        """
        self.cleanup()
        place = Path(checkpoint_dir)
        if not place.is_dir():  # the folder is on the driver's machine
            place = pointer_file(self._folder).parent
            self._folder.refresh_file(pointer_file(self._folder))
        pointer = Pointer.read(place)
        self._reported = pointer.step
        self._signs = pointer.signs.split(", ") if pointer.signs else []
        if pointer.trial != self.trial_id:
            with self._folder.sole_writer():
                self._folder.restore()
                donor = self._context.folder.trial(pointer.trial)
                self._reported = exploit(self._folder, donor, pointer.step, self._settings)

    def cleanup(self) -> None:
        """Ends the training in progress, if any."""
        if self._steps is not None:
            self._steps.close()
        self._steps = None

    def _sole_writer(self) -> AbstractContextManager[None]:
        """The folder's lock, held for one step only: a paused trial may resume in another actor. With several workers,
        rank 0 of the group holds it."""
        return self._folder.sole_writer() if self._experiment.compute.workers == 1 else nullcontext()

    def _play(self) -> Generator[LoggedStep, None, None]:
        """Plays from the checkpoint that was reported last, or from an older one if that is missing."""
        context, target = self._context, self._context.target(self.trial_id)
        constants = context.constants(self._settings)
        if self._experiment.compute.workers == 1:
            sweep_folder(self._folder)
            self._folder.restore(self._reported)
            known = self._folder.discard_after(self._reported)
            start = next((path for path in reversed(known) if checkpoint.is_whole(path)), None)
            device = "cuda" if context.resources.use_gpu else "cpu"
            return play(self._experiment, self._folder, context.reference, target, device, start, constants=constants)
        with self._folder.sole_writer():
            self._folder.discard_after(self._reported)
        return run_group(
            GroupTask(
                self._experiment, self._folder, context.reference, target, context.resources, constants, context.code
            )
        )


def _why(error: SettingsError | StopIteration | TakenOverError) -> str:
    # StopIteration: the weights that it took were at the end of their budget
    return "nothing is left to play" if isinstance(error, StopIteration) else str(error)
