"""The domain of every searchable field. A family's space holds its own fields only, so that no trial is spent on
a setting without meaning.

The ranges of `wide` in the study "Are GANs Created Equal?" (Lucic et al. 2018, table 3) for beta1, n_critic and gamma;
the others lie around the papers' settings, where a short budget can tell good from bad. Sizes, and options that make
another game of a family (unrolled, minibatch_features, instance_noise, dropout, labelled, optimizer), have no domain:
they are the user's to fix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gan_core.family import Family


class Suggests(Protocol):
    """What a domain asks of a define-by-run sampler (an Optuna trial is one)."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from low to high, uniform or log-uniform."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, log-uniform if `log`."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Suggests, name: str) -> float:
        """The sampler's choice."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[int | float | str, ...]

    def suggest(self, trial: Suggests, name: str) -> Any:
        """The sampler's choice."""
        return trial.suggest_categorical(name, list(self.values))

    def __str__(self) -> str:
        return f"{{{', '.join(map(str, self.values))}}}"


Domain = Range | Choice

DOMAINS: Mapping[str, Domain] = {
    "lr": Range(5e-5, 2e-3, log=True),
    "beta1": Range(0.0, 0.9),
    "clip": Range(3e-3, 0.3, log=True),
    "gp_lambda": Range(0.3, 30.0, log=True),
    "n_critic": Choice((1, 2, 3, 5)),
    "gamma": Range(0.0, 1.0),
    "kl_weight": Range(1.0, 20.0, log=True),
}


def space(family: type[Family], fixed: Sequence[str] = ()) -> dict[str, Domain]:
    """The domains of a family's searchable fields, less those that the user fixed: `lr` for all, `wgan.lr` for one."""
    return {
        name: domain
        for name, domain in DOMAINS.items()
        if name in family.model_fields and not {name, f"{family.name}.{name}"} & set(fixed)
    }


def suggest(trial: Suggests, spaces: Mapping[str, Mapping[str, Domain]]) -> dict[str, Any]:
    """One family of several, then its own fields: `{"settings": {"name": ..., field: ...}}`.

    Conditional by construction: each family's fields are parameters of their own (`wgan.lr`, `wgan_gp.lr`).
    """
    names = list(spaces)
    name = names[0] if len(names) == 1 else trial.suggest_categorical("family", names)
    fields = {field: domain.suggest(trial, f"{name}.{field}") for field, domain in spaces[name].items()}
    return {"settings": {"name": name, **fields}}
