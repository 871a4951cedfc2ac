"""One trial of a search as Ray Tune sees it: a step is one evaluation, a checkpoint a pointer to ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from gan_core import checkpoint
from pipelines.group import Job, run_group
from pipelines.room import Shares
from pipelines.rows import Event
from pipelines.runs import RunFolder
from pipelines.settings import SearchExperiment
from pipelines.worker import TrackingTarget, play

POINTER = "pointer.json"


@dataclass(frozen=True)
class SearchContext:
    """What all trials of a search share."""

    experiment: SearchExperiment
    folder: RunFolder
    reference: bytes
    tracking_uri: str
    tracking_experiment: str
    parent: str
    tags: dict[str, str]
    use_gpu: bool

    def target(self, trial_id: str) -> TrackingTarget:
        """The child run of a trial."""
        return TrackingTarget(
            self.tracking_uri,
            self.tracking_experiment,
            kind="trial",
            identity=f"{self.folder.id}/{trial_id}",
            name=f"{self.folder.path.name}/{trial_id}",
            parent=self.parent,
            tags={**self.tags, "ganfleet.trial": trial_id, "ganfleet.search": self.folder.path.name},
        )


class Trial(tune.Trainable):
    """A single-worker trial plays in this actor, which the next trial reuses; more workers are a group of Ray
    Train's beside it."""

    _events: Iterator[Event] | None

    def setup(self, config: dict[str, Any], context: SearchContext | None = None) -> None:
        """Called once an actor; `reset_config` begins each further trial."""
        assert context is not None
        self._context = context
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins a trial at its first round."""
        self.cleanup()
        self._experiment = self._context.experiment.trial(new_config["settings"], new_config.get("seed"))
        self._folder = self._context.folder.trial(self.trial_id)
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._folder.experiment.write_text(self._experiment.to_yaml())
        self._reported = 0
        self._signs: list[str] = []
        return True

    def step(self) -> dict[str, Any]:
        """Plays on to the next evaluation."""
        if self._events is None:
            self._events = self._play()
        events = map(self._noted, self._events)
        event = next(event for event in events if "fid" in event.metrics and event.step > self._reported)
        self._reported = event.step
        return {
            **event.metrics,
            "signs": ", ".join(self._signs),
            "step": event.step,
            "last_step": event.last_step,
            "done": event.step >= event.last_step,
            "should_checkpoint": True,
        }

    def _noted(self, event: Event) -> Event:
        self._signs += [sign.name for sign in event.signs if sign.name not in self._signs]
        return event

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune keeps how far we were; the state itself is in the trial's own folder."""
        Path(checkpoint_dir, POINTER).write_text(json.dumps({"step": self._reported, "signs": self._signs}))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Goes on from the pointer: what this trial did after it was never reported."""
        self.cleanup()
        pointer = json.loads(Path(checkpoint_dir, POINTER).read_text())
        self._reported, self._signs = int(pointer["step"]), pointer["signs"]

    def cleanup(self) -> None:
        """Ends the game in progress, if any."""
        self._events = None

    def _play(self) -> Iterator[Event]:
        """From the newest checkpoint that Tune knows of; if it is gone, what lies between is played again."""
        known = self._folder.discard_after(self._reported)
        start = next((path for path in reversed(known) if checkpoint.is_whole(path)), None)
        context, target = self._context, self._context.target(self.trial_id)
        if self._experiment.compute.workers > 1:
            job = Job(self._experiment, self._folder, context.reference, target, Shares(context.use_gpu, 1))
            return run_group(job)
        device = "cuda" if context.use_gpu else "cpu"
        return play(self._experiment, self._folder, context.reference, target, device, start)
