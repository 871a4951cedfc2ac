"""One trial of a search as Ray Tune sees it: a step is one evaluation, a checkpoint a pointer to ours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ray import tune

from gan_core import checkpoint
from gan_core.health.collapse import CollapseDetector
from gan_core.loop import DivergedError
from gan_core.settings import SettingsError
from pipelines.runs import FullDiskError, Pointer, TakenOverError, full_disk_told, pointer_file
from pipelines.search.trials._exploit import exploit
from pipelines.search.trials.context import SearchContext
from pipelines.train.logged_steps import LoggedStep
from pipelines.train.play import play
from pipelines.train.worker_group import GroupTask, run_group

FAILED = "failed"
"""A result's field that says why the trial failed. It ends the trial as Tune ends any other, so that the actor is
kept and nothing is tried again: what failed would fail again. So ends one whose search was taken over, too: no journal
takes down that it failed, for its driver ends when it is about to."""

FULL_DISK = "full_disk"
"""A result's field that says what keeps this trial, and any other, from being kept: it ends the search."""


class Trial(tune.Trainable):
    """A single-worker trial plays in this actor, which the next trial reuses; more workers are a group of Ray
    Train's beside it."""

    _events: Iterator[LoggedStep] | None = None

    def setup(self, config: dict[str, Any], context: SearchContext | None = None) -> None:
        """Called once an actor; `reset_config` begins each further trial."""
        assert context is not None
        self._context = context
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins a trial at its first round."""
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
        """Plays on to the next evaluation, or to what makes another impossible."""
        try:
            with full_disk_told(self._experiment.storage), self._writing():
                if self._events is None:
                    self._events = self._play()
                event = next(event for event in map(self._noted, self._events) if self._is_next(event))
        except (DivergedError, SettingsError, StopIteration, TakenOverError) as error:
            return self._last(FAILED, _why(error))
        except FullDiskError as error:
            return self._last(FULL_DISK, str(error))
        self._reported = event.step
        collapsed = self._seen(event)
        return {
            **event.metrics,
            "training_iteration": -(-event.step // self._experiment.budget.eval_every),
            "signs": ", ".join(self._signs),
            "step": event.step,
            "last_step": event.last_step,
            "done": bool(collapsed) or event.step >= event.last_step,
            "should_checkpoint": True,
            **({FAILED: f"collapsed: {collapsed}"} if collapsed else {}),
        }

    def _last(self, field: str, why: str) -> dict[str, Any]:
        self.cleanup()
        return {"step": self._reported, "fid": math.inf, "done": True, field: why}

    def _is_next(self, event: LoggedStep) -> bool:
        return "fid" in event.metrics and event.step > self._reported

    def _noted(self, event: LoggedStep) -> LoggedStep:
        self._signs += [sign.name for sign in event.signs if sign.name not in self._signs]
        return event

    def _seen(self, event: LoggedStep) -> str:
        """Whether the samples have collapsed for good, by all evaluations of this game until now."""
        if self._collapse is None:
            self._collapse = CollapseDetector(event.last_step)
            for row in self._folder.rows():
                if row["step"] < event.step:
                    self._collapse.see(int(row["step"]), row)
        return self._collapse.see(event.step, event.metrics)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune keeps how far we were; the state itself is in the trial's own folder."""
        Pointer(self.trial_id, self._reported, ", ".join(self._signs)).write(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Goes on from the pointer: what this trial did after it was never reported. If it points at another trial,
        takes that one's weights; their optimisers' state is loaded into this trial's settings."""
        self.cleanup()
        place = Path(checkpoint_dir)
        if not place.is_dir():  # it is on the driver's machine
            place = pointer_file(self._folder).parent
            self._folder.bring_file(pointer_file(self._folder))
        pointer = Pointer.read(place)
        self._reported = pointer.step
        self._signs = pointer.signs.split(", ") if pointer.signs else []
        if pointer.trial != self.trial_id:
            with self._folder.sole_writer():
                self._folder.take_up()
                donor = self._context.folder.trial(pointer.trial)
                self._reported = exploit(self._folder, donor, pointer.step, self._settings)

    def cleanup(self) -> None:
        """Ends the game in progress, if any."""
        if self._events is not None:
            self._events.close()  # type: ignore[attr-defined]
        self._events = None

    def _writing(self) -> AbstractContextManager[None]:
        """Held for a step only: a trial that is paused may go on in another actor. A group's first rank has its own."""
        return self._folder.sole_writer() if self._experiment.compute.workers == 1 else nullcontext()

    def _play(self) -> Iterator[LoggedStep]:
        """From the newest checkpoint that Tune knows of; if it is gone, what lies between is played again."""
        context, target = self._context, self._context.target(self.trial_id)
        constants = context.constants(self._settings)
        if self._experiment.compute.workers == 1:
            self._folder.take_up(self._reported)
            known = self._folder.discard_after(self._reported)
            start = next((path for path in reversed(known) if checkpoint.is_whole(path)), None)
            device = "cuda" if context.shares.use_gpu else "cpu"
            return play(self._experiment, self._folder, context.reference, target, device, start, constants=constants)
        with self._folder.sole_writer():
            self._folder.discard_after(self._reported)
        return run_group(
            GroupTask(self._experiment, self._folder, context.reference, target, context.shares, constants)
        )


def _why(error: DivergedError | SettingsError | StopIteration | TakenOverError) -> str:
    if isinstance(error, StopIteration):  # the weights that it took had been played to the end
        return "nothing is left to play"
    return f"diverged: {error}" if isinstance(error, DivergedError) else str(error)
