"""Optuna's samplers by name, through its ask-and-tell interface."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, Trial, TrialState

from tune_spaces.domains import Space, suggest

STARTUP = 6
"""How many results a model waits for; until then it draws at random."""


class Study:
    """One sampler over one family's space, or over a choice of families with a space each; it minimises a loss."""

    def __init__(self, sampler: str, spaces: Mapping[str, Space], seed: int) -> None:
        self._spaces = spaces
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(sampler=_SAMPLERS[sampler](spaces, seed))
        self._open: dict[str, Trial] = {}
        self._worst = -math.inf
        self._bad: list[Trial] = []  # those without a loss that ended before any had one

    def ask(self, trial: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings of a trial, `{"name": ..., field: ...}`. With `given`, those; the sampler learns from them."""
        if given is not None:
            name = given["name"]
            fields = {f"{name}.{field}": given[field] for field in self._spaces[name]}
            self._study.enqueue_trial({**fields, **({"family": name} if len(self._spaces) > 1 else {})})
        self._open[trial] = self._study.ask()
        return suggest(self._open[trial], self._spaces)["settings"]

    def replace(self, trial: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The trial has these settings instead of those that `ask` gave. The sampler learns from these alone."""
        self._study.tell(self._open.pop(trial), state=TrialState.FAIL)
        return self.ask(trial, given)

    def tell(self, trial: str, loss: float | None) -> None:
        """Passes the loss of a trial that ended. A trial without one counts as the worst so far, once there is a worst:
        the sampler avoids its settings."""
        self._bad.append(self._open.pop(trial))
        if loss is not None:
            self._worst = max(self._worst, loss)
            self._study.tell(self._bad.pop(), loss)
        if math.isfinite(self._worst):
            for asked in self._bad:
                self._study.tell(asked, self._worst)
            self._bad = []


class _Sobol(QMCSampler):
    """Sobol' points in a space that is known from the start. Optuna would learn it from a study's first trial, and draw
    that trial, and every field missing from it, at random."""

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        super().__init__(qmc_type="sobol", scramble=True, seed=seed)
        self._space = dict(space)

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return dict(self._space)


def _random(spaces: Mapping[str, Space], seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _tpe(spaces: Mapping[str, Space], seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), one tree for each family's own fields."""
    return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True)


def _gp(spaces: Mapping[str, Space], seed: int) -> BaseSampler:
    """A Gaussian process with a Matérn kernel and expected improvement (Jones et al. 1998)."""
    assert len(spaces) == 1, "a Gaussian process has no conditional space, so each family needs its own"
    return GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)


def _sobol(spaces: Mapping[str, Space], seed: int) -> BaseSampler:
    """Sobol' points with Owen's scrambling (Owen 1998): spread evenly over a family's space at any number of trials."""
    assert len(spaces) == 1, "a sequence is spread evenly over one space, so each family needs its own"
    ((name, fields),) = spaces.items()
    somewhere = FixedTrial({f"{name}.{field}": domain.ends[0] for field, domain in fields.items()})
    suggest(somewhere, spaces)
    return _Sobol(somewhere.distributions, seed)


_SAMPLERS: Mapping[str, Callable[[Mapping[str, Space], int], BaseSampler]] = {
    "random": _random,
    "sobol": _sobol,
    "tpe": _tpe,
    "gp": _gp,
}
