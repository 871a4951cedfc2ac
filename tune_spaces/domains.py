"""The domain of every searchable field. A family's space holds only its own fields, so no trial is spent on a setting
without meaning.

`wide`: the ranges of "Are GANs Created Equal?" (Lucic et al. 2018, arXiv:1711.10337), as in the study's code,
google/compare_gan, compare_gan/src/params.py.
`narrow`: around the papers' settings, where a short budget can tell good from bad.

Sizes, averages, and options that change the kind of training (unrolled, minibatch_features, instance_noise, augment,
ada_target, dropout, labelled, optimizer, net) have no domain unless the user gives one; nor has R1 in a family that is
without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol

from gan_core.family import Family
from tune_spaces.fields import FieldRange, field_range

RangeName = Literal["narrow", "wide"]


class Suggests(Protocol):
    """A define-by-run sampler, as domains use it; an Optuna trial is one."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from low to high, uniform or log-uniform."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high, both included."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, log-uniform if `log`."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Suggests, name: str) -> float:
        """The value that the sampler chooses."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def within(self, field: FieldRange) -> Range | None:
        """The part of the domain that a field accepts; None if that leaves nothing to search."""
        low, high = max(self.low, field.low), min(self.high, field.high)
        return Range(low, high, self.log) if field.kind == "number" and low < high else None

    @property
    def size(self) -> float:
        """How many values there are."""
        return math.inf

    def draw(self, random: Random, near: float | None = None, reach: float = 1.0) -> float:
        """Any value, uniform or log-uniform. With `near`, one that is at most a share `reach` of the domain away."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        if near is not None:
            middle, most = math.log(near) if self.log else near, reach * (high - low)
            low, high = max(low, middle - most), min(high, middle + most)
        drawn = random.uniform(low, high)
        return min(max(math.exp(drawn), self.low), self.high) if self.log else drawn

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return self.low, self.high

    @property
    def expression(self) -> str:
        """The domain as a user writes it."""
        return f"{'log' if self.log else ''}uniform({self.low:g},{self.high:g})"

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Whole:
    """Whole numbers from low to high, both included."""

    low: int
    high: int

    def suggest(self, trial: Suggests, name: str) -> int:
        """The value that the sampler chooses."""
        return trial.suggest_int(name, self.low, self.high)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high

    def within(self, field: FieldRange) -> Whole | None:
        """The part of the domain that a field accepts; None if that leaves nothing to search."""
        low, high = int(max(self.low, field.low)), int(min(self.high, field.high))
        return Whole(low, high) if field.kind == "whole" and low < high else None

    @property
    def size(self) -> int:
        """How many values there are."""
        return self.high - self.low + 1

    def draw(self, random: Random, near: int | None = None, reach: float = 1.0) -> int:
        """Any value, uniform. With `near`, one that is at most a share `reach` of the domain away."""
        if near is None:
            return random.randint(self.low, self.high)
        most = math.ceil(reach * (self.high - self.low))
        return random.randint(max(self.low, near - most), min(self.high, near + most))

    @property
    def ends(self) -> tuple[int, int]:
        """The lowest and the highest value."""
        return self.low, self.high

    @property
    def expression(self) -> str:
        """The domain as a user writes it."""
        return f"randint({self.low},{self.high})"

    def __str__(self) -> str:
        return f"{self.low}..{self.high} (whole)"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[bool | int | float | str, ...]

    def suggest(self, trial: Suggests, name: str) -> Any:
        """The value that the sampler chooses."""
        return trial.suggest_categorical(name, list(self.values))

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def within(self, field: FieldRange) -> Choice | None:
        """The part of the domain that a field accepts; None if that leaves nothing to search."""
        values = tuple(value for value in self.values if value in field)
        return Choice(values) if len(values) > 1 else None

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def draw(self, random: Random, near: Any = None, reach: float = 1.0) -> Any:
        """Any value, uniform. With `near`, that one in all but a share `reach` of cases."""
        return random.choice(self.values) if near is None or random.random() < reach else near

    @property
    def ends(self) -> tuple[bool | int | float | str, ...]:
        """All values."""
        return self.values

    @property
    def expression(self) -> str:
        """The domain as a user writes it."""
        return f"choice({','.join(self._words)})"

    def __str__(self) -> str:
        return f"{{{', '.join(self._words)}}}"

    @property
    def _words(self) -> list[str]:
        return [str(value).lower() if isinstance(value, bool) else str(value) for value in self.values]


Domain = Range | Whole | Choice
Space = Mapping[str, Domain]
"""The domains of one family's searched fields, or of all families' by field, where `family.field` is of that family."""

_SWITCH = Choice((False, True))

NARROW: Space = {
    "lr": Range(5e-5, 2e-3, log=True),
    "critic_lr": Range(5e-5, 2e-3, log=True),
    "beta1": Range(0.0, 0.9),
    "clip": Range(3e-3, 0.3, log=True),
    "gp_lambda": Range(0.3, 30.0, log=True),
    "n_critic": Choice((1, 2, 3, 5)),
    "r1_gamma": Range(0.01, 10.0, log=True),
    "r1_r2_gamma": Range(0.01, 10.0, log=True),
    "gamma": Range(0.0, 1.0),
    "lambda_k": Range(2e-4, 2e-2, log=True),
    "kl_weight": Range(1.0, 20.0, log=True),
    "critic_batch_norm": _SWITCH,
    "encoder_batch_norm": _SWITCH,
    "stylegan2.lr": Range(5e-4, 1e-2, log=True),  # equalised layers take larger rates
}

WIDE: Space = {
    "lr": Range(1e-5, 1e-2, log=True),
    "critic_lr": Range(1e-5, 1e-2, log=True),  # not in the study
    "beta1": Range(0.0, 0.9999),  # the study's 1 is a moment that never forgets; Adam needs less
    "clip": Range(1e-3, 1.0, log=True),
    "gp_lambda": Range(0.1, 100.0, log=True),
    "n_critic": Choice((1, 5)),
    "r1_gamma": Range(0.01, 10.0, log=True),  # not in the study
    "r1_r2_gamma": Range(0.001, 100.0, log=True),  # not in the study
    "gamma": Range(0.0, 1.0),
    "lambda_k": Range(1e-4, 1e-2, log=True),
    "kl_weight": Range(0.03, 30.0, log=True),  # not in the study
    "critic_batch_norm": _SWITCH,
    "encoder_batch_norm": _SWITCH,
}

BATCH_SIZE = "data.batch_size"
"""The one searched setting that is of no family. It stands in a trial's settings beside the family's fields."""

DOMAINS: Mapping[RangeName, Space] = {"narrow": NARROW, "wide": WIDE}


@dataclass(frozen=True)
class SearchedFields:
    """Which fields of the families are searched, and in which domains."""

    range: RangeName = "narrow"
    fixed: Sequence[str] = ()
    """Fields that the user set: `lr` in all families, `wgan.lr` in one."""
    own: Mapping[str, Space] = field(default_factory=dict)
    """The user's own domains, by family; they replace those of the range."""

    def space(self, family: Family, called: str | None = None) -> dict[str, Domain]:
        """The domains of a family's searched fields: the range's in their order, then the user's. A field without
        meaning in the family's other settings is not among the range's. `called`: what the search calls the family, if
        not by its name."""
        fixed, kind, called = set(self.fixed), type(family), called or family.name
        unused = family.without_meaning()
        domains: dict[str, Domain] = {}
        for name, domain in DOMAINS[self.range].items():
            if name in kind.model_fields and name not in unused and not {name, f"{called}.{name}"} & fixed:
                values = field_range(kind, name)
                domain = DOMAINS[self.range].get(f"{family.name}.{name}", domain)
                if isinstance(domain, Range) and domain.log and values.default == 0:
                    continue  # the family is without this term, and no value of the domain is without it
                known = domain.within(values)
                domains |= {} if known is None else {name: known}
        return {**domains, **self.own.get(called, {})}


def suggest(trial: Suggests, spaces: Mapping[str, Space]) -> dict[str, Any]:
    """Draws a family, then its own fields: `{"settings": {"name": ..., field: ...}}`.

    Each family's fields are separate parameters (`wgan.lr`, `wgan_gp.lr`), so the space is conditional on the family.
    """
    names = list(spaces)
    name = names[0] if len(names) == 1 else trial.suggest_categorical("family", names)
    fields = {field: domain.suggest(trial, f"{name}.{field}") for field, domain in spaces[name].items()}
    return {"settings": {"name": name, **fields}}
