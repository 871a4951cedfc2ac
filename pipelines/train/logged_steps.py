"""Logged steps in order. Some have an evaluation, which may end later than the step."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from gan_core import ranks
from gan_core.health.divergence import DivergedError, check_finite
from gan_core.health.signs import Sign, SignDetector
from gan_core.loop import Game
from gan_core.metrics.scores import MeasureError, scores
from gan_core.metrics.statistics.reference import Reference
from infra.stores.protocol import StoreError
from infra.tracker import Tracker

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoggedStep:
    """The metrics of one step, and the checkpoint if one was saved."""

    step: int
    last_step: int
    images_seen: int
    metrics: dict[str, float]
    checkpoint: str | None
    signs: tuple[Sign, ...] = ()
    """Warning signs that are reported at this step."""
    rollback: str = ""
    """What was done before this step because the game had diverged; empty if nothing was."""


class Evaluation(Protocol):
    """An evaluation that runs or has ended."""

    def ready(self) -> bool:
        """Whether it has ended, so that `result` does not wait."""

    def result(self) -> dict[str, float]:
        """Waits for the metrics, `fid` among them. Raises ValueError if a feature is not finite or a measure cannot be
        computed, StoreError if the data cannot be reached."""


class Evaluator(Protocol):
    """Starts evaluations."""

    def begin(self, game: Game) -> Evaluation:
        """Evaluates the game as it is now. Raises DivergedError if the evaluation fails at once."""


@dataclass(frozen=True)
class FinishedEvaluation:
    """An evaluation that has ended."""

    metrics: dict[str, float]

    def ready(self) -> bool:
        return True

    def result(self) -> dict[str, float]:
        return self.metrics


@dataclass(frozen=True)
class InlineEvaluator:
    """Evaluates while training waits. Each rank takes its share of the samples."""

    reference: Reference

    def begin(self, game: Game) -> FinishedEvaluation:
        try:
            found = scores(game, self.reference)
        except ValueError as error:
            raise unmeasured(error, game.step) from None
        check_finite(found, game.step)
        return FinishedEvaluation(found)


def unmeasured(error: ValueError, step: int) -> DivergedError:
    """The error of a game whose samples cannot be measured."""
    measure = error.measure if isinstance(error, MeasureError) else "fid"
    return DivergedError(f"{measure} cannot be computed", step, str(error))


class LoggedSteps:
    """Logs steps in order: a step whose evaluation still runs holds back the steps after it."""

    def __init__(self, tracker: Tracker, sign_detector: SignDetector) -> None:
        self.tracker = tracker
        self._sign_detector = sign_detector
        self._waiting: deque[tuple[LoggedStep, Evaluation]] = deque()

    def add(self, logged: LoggedStep, evaluation: Evaluation | None) -> None:
        """Adds a step, and its evaluation if it has one."""
        self._waiting.append((logged, evaluation or FinishedEvaluation({})))

    def log(self, wait: bool) -> Iterator[LoggedStep]:
        """Logs and yields the steps that are ready, or with `wait` all steps. Raises DivergedError for a failed
        evaluation, and for a number that is not finite.

        The tracker is flushed before a step with an evaluation is yielded, because its reader may end the run.
        """
        while self._waiting and (wait or self._waiting[0][1].ready()):
            logged, evaluation = self._waiting.popleft()
            try:
                metrics = {**logged.metrics, **evaluation.result()}
            except StoreError:
                raise
            except ValueError as error:
                raise unmeasured(error, logged.step) from None
            check_finite(metrics, logged.step)
            self.tracker.metrics(logged.step, metrics)
            signs = self._sign_detector.see(logged.step, metrics)
            if signs and ranks.rank() == 0:
                self.tracker.tags(
                    {f"ganfleet.sign.{sign.name}": f"step {logged.step}: {sign.seen}; {sign.advice}" for sign in signs}
                )
                for sign in signs:
                    _LOG.warning("step %d: %s", logged.step, sign)
            if "fid" in metrics:
                self.tracker.flush()
            yield replace(logged, metrics=metrics, signs=signs)
