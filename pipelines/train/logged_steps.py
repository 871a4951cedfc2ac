"""Logged steps in their order, each with its evaluation, which may end later than the step."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from gan_core import ranks
from gan_core.health.signs import Sign, Watch
from gan_core.loop import DivergedError, Game
from gan_core.metrics.scores import scores
from gan_core.metrics.statistics.reference import Reference
from infra.stores.protocol import StoreError
from infra.tracker import Tracker

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """What one logged step brought."""

    step: int
    last_step: int
    images_seen: int
    metrics: dict[str, float]
    checkpoint: str | None
    signs: tuple[Sign, ...] = ()
    """Warning signs that are told at this step."""


class Pending(Protocol):
    """An evaluation under way."""

    def ready(self) -> bool:
        """Whether `result` is there at once."""
        ...

    def result(self) -> dict[str, float]:
        """Metrics by name, `fid` among them. Waits. Raises ValueError if a feature is not finite, StoreError if the
        data cannot be reached."""
        ...


class Evaluator(Protocol):
    """Where evaluations are made."""

    def begin(self, game: Game) -> Pending:
        """Measures the game as it is now. Raises DivergedError if that is known at once to be impossible."""
        ...


@dataclass(frozen=True)
class Known:
    """An evaluation that has ended."""

    found: dict[str, float]

    def ready(self) -> bool:
        return True

    def result(self) -> dict[str, float]:
        return self.found


@dataclass(frozen=True)
class Inline:
    """Evaluates at once, each rank its share, while training waits."""

    reference: Reference

    def begin(self, game: Game) -> Known:
        try:
            return Known(scores(game, self.reference))
        except ValueError as error:
            raise DivergedError(f"fid cannot be computed at step {game.step}: {error}") from None


class Rows:
    """Logged steps in their order; one whose evaluation still runs holds back those after it."""

    def __init__(self, tracker: Tracker, watch: Watch) -> None:
        self.tracker = tracker
        self._watch = watch
        self._waiting: deque[tuple[Event, Pending]] = deque()

    def add(self, event: Event, pending: Pending | None) -> None:
        """A step, and its evaluation if it has one."""
        self._waiting.append((event, pending or Known({})))

    def logged(self, wait: bool) -> Iterator[Event]:
        """Logs and yields the steps that are ready, or all. Raises DivergedError for a failed evaluation.

        At an evaluation all is brought to where others see it: whoever is told of it may end the run.
        """
        while self._waiting and (wait or self._waiting[0][1].ready()):
            event, pending = self._waiting.popleft()
            try:
                metrics = {**event.metrics, **pending.result()}
            except StoreError:
                raise
            except ValueError as error:
                raise DivergedError(f"fid cannot be computed at step {event.step}: {error}") from None
            self.tracker.metrics(event.step, metrics)
            signs = self._watch.see(event.step, metrics)
            if signs and ranks.rank() == 0:
                self._tell(event.step, signs)
            if "fid" in metrics:
                self.tracker.flush()
            yield replace(event, metrics=metrics, signs=signs)

    def _tell(self, step: int, signs: tuple[Sign, ...]) -> None:
        self.tracker.tags({f"ganfleet.sign.{sign.name}": f"step {step}: {sign.seen}; {sign.advice}" for sign in signs})
        for sign in signs:
            _LOG.warning("step %d: %s", step, sign)
