"""Schedules: a factor, or a value, as a function of the rounds played, for learning rates, for the weights of penalties
and for Adam's beta2.

A schedule names its rounds itself and does not look at the budget. So a run that is resumed for longer is the run that
was longer from the start.
"""

from __future__ import annotations

import math

from gan_core.recipe import Schedule


def warm_up(rounds: int) -> Schedule:
    """Rises linearly to 1 over `rounds`; the first round has 1 / rounds. Goyal et al. 2017, section 2.2."""
    return lambda played: min((played + 1) / max(rounds, 1), 1.0)


def linear_decay(first: int, last: int, to: float = 0.0) -> Schedule:
    """1 for `first` rounds, then falls linearly to `to` at round `last`, and stays there."""
    return lambda played: 1 + (to - 1) * _share(played, first, last)


def cosine_decay(first: int, last: int, to: float = 0.0) -> Schedule:
    """As `linear_decay`, along half a cosine. Loshchilov & Hutter 2017, equation 5."""
    return lambda played: to + (1 - to) * (1 + math.cos(math.pi * _share(played, first, last))) / 2


def cosine(start: float, end: float, rounds: int) -> Schedule:
    """A value, from `start` to `end` along half a cosine over `rounds`, and `end` from there on; always `start` if
    `rounds` is 0."""
    return lambda played: end + (start - end) * cosine_decay(0, rounds)(played) if rounds else start


def halvings(rounds: int) -> Schedule:
    """1, and half as much after each `rounds` rounds."""
    return lambda played: 0.5 ** (played // rounds)


def product(*schedules: Schedule) -> Schedule:
    """All of them at once: a warm-up and a decay."""
    return lambda played: math.prod(schedule(played) for schedule in schedules)


def _share(played: int, first: int, last: int) -> float:
    """How much of the rounds from `first` to `last` has passed, from 0 to 1."""
    return min(max(played - first, 0) / max(last - first, 1), 1.0)
