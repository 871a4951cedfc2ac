"""BOHB (Falkner et al. 2018, arXiv:1807.01774): kernel densities of good and bad settings, at the largest rung that has
results enough. The estimator is the authors' own (package hpbandster), the rungs are Ray Tune's `HyperBandForBOHB`."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tune_spaces.domains import Range, Space, Whole

PACKAGES = ("hpbandster", "ConfigSpace")


def installed() -> bool:
    """Whether what BOHB needs is there, without importing it."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


class _Job:
    """What hpbandster asks of a result."""

    exception = None

    def __init__(self, config: dict[str, Any], budget: int, loss: float) -> None:
        self.result = {"loss": loss}
        self.kwargs = {"budget": budget, "config": config}


class Bohb:
    """One density over one family's space, or over a choice of families of which each has a space on condition."""

    def __init__(self, spaces: Mapping[str, Space], seed: int) -> None:
        import numpy as np

        self._spaces = spaces
        self._random = np.random.RandomState(seed).get_state()
        self._configs: dict[str, dict[str, Any]] = {}
        self._told: set[tuple[str, int]] = set()
        with _quiet():
            from hpbandster.optimizers.config_generators.bohb import BOHB

            self._bohb = BOHB(_config_space(spaces, seed))

    def ask(self, trial: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings of a trial, `{"name": ..., field: ...}`: the sampler's, or those given, for it to learn from."""
        if given is None:
            with self._seeded():
                config = {key: _plain(value) for key, value in self._bohb.get_config(None)[0].items()}
        else:
            name = given["name"]
            config = {f"{name}.{field}": given[field] for field in self._spaces[name]}
            config |= {"family": name} if len(self._spaces) > 1 else {}
        self._configs[trial] = config
        name = config.get("family", next(iter(self._spaces)))
        return {"name": name, **{field: config[f"{name}.{field}"] for field in self._spaces[name]}}

    def reached(self, trial: str, step: int, fid: float) -> None:
        """A trial's FID at a rung."""
        if (trial, step) not in self._told:
            self._told.add((trial, step))
            with self._seeded():
                self._bohb.new_result(_Job(self._configs[trial], step, fid))

    def tell(self, trial: str, step: int, fid: float | None) -> None:
        """The end of a trial; one without a FID counts as the worst at the largest rung that anyone has reached."""
        if fid is None:
            step, fid = max([step, *self._bohb.configs]), math.inf
        self.reached(trial, step, fid)
        del self._configs[trial]

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """hpbandster draws from NumPy's global state: ours is put there and taken back."""
        import numpy as np

        others = np.random.get_state()
        np.random.set_state(self._random)
        try:
            with _quiet():
                yield
        finally:
            self._random = np.random.get_state()
            np.random.set_state(others)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _config_space(spaces: Mapping[str, Space], seed: int) -> Any:
    import ConfigSpace as CS  # noqa: N817

    space = CS.ConfigurationSpace(seed=seed)
    family = CS.CategoricalHyperparameter("family", list(spaces))
    if len(spaces) > 1:
        space.add(family)
    for name, fields in spaces.items():
        for field, domain in fields.items():
            key = f"{name}.{field}"
            if isinstance(domain, Range):
                one: Any = CS.UniformFloatHyperparameter(key, domain.low, domain.high, log=domain.log)
            elif isinstance(domain, Whole):
                one = CS.UniformIntegerHyperparameter(key, domain.low, domain.high)
            else:
                one = CS.CategoricalHyperparameter(key, list(domain.values))
            space.add(one)
            if len(spaces) > 1:
                space.add(CS.EqualsCondition(one, family, name))
    return space


def _plain(value: Any) -> Any:
    """NumPy's scalars and strings as Python's: what goes into YAML and MLflow."""
    return value.item() if hasattr(value, "item") else value
