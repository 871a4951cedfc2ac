"""Domains as a user writes them, such as `loguniform(1e-5,1e-2)`, checked against the field they are for."""

from __future__ import annotations

import math
import re
from typing import Any

from gan_core.settings import Settings, SettingsError, similar
from tune_spaces.domains import NARROW, Choice, Domain, Range, Whole
from tune_spaces.fields import FieldRange, field_range

KINDS = ("uniform", "loguniform", "randint", "choice")


def parse_domain(path: str, text: object, family: type[Settings], name: str) -> Domain:
    """The domain that `text` gives for a field of a family, or of another section. Raises SettingsError, which names
    the field `path`."""
    field = field_range(family, name)
    if field.kind == "other":
        raise SettingsError(
            f"{path}: {name} is neither a number nor a choice", nearest=f"{_setting_of(path)}={field.default}"
        )
    found = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", str(text))
    if found is None:
        raise SettingsError(f"{path}={text} is no domain", nearest=f"{path}={example(family, name)}")
    kind, values = found[1], [_value(word) for word in found[2].split(",")]
    if kind not in KINDS:
        meant = similar(kind, KINDS)
        right = example(family, name) if meant is None else f"{meant}({found[2]})"
        try:
            parse_domain(path, right, family, name)
        except SettingsError:
            right = example(family, name)
        raise SettingsError(f"{path}={text} is no domain", nearest=f"{path}={right} (known: {', '.join(KINDS)})")
    right = example(family, name)
    if kind == "choice":
        return _choice(f"{path}={text}", path, values, field, right)
    if field.kind in ("words", "switch"):
        raise SettingsError(f"{path}={text}: {name} is {field}", nearest=f"{path}={right}")
    return _between(f"{path}={text}", path, kind, values, field, right)


def _setting_of(path: str) -> str:
    """The setting whose domain `path` names: `space.lr` and `space.wgan.lr` are of `family.lr`."""
    return "data.batch_size" if path == "space.data.batch_size" else f"family.{path.rpartition('.')[2]}"


def example(family: type[Settings], name: str) -> str:
    """An expression that fits the field: the narrow domain, else half to twice its default, else its whole range."""
    field = field_range(family, name)
    known = NARROW[name].within(field) if name in NARROW else None
    if known is not None:
        return known.expression
    if field.kind == "words":
        return Choice(field.words).expression
    if field.kind == "switch":
        return Choice((False, True)).expression
    low, high = max(field.low, field.default / 2), min(field.high, field.default * 2)
    if low >= high:
        low, high = field.low, field.high
    return (Whole(math.ceil(low), int(high)) if field.kind == "whole" else Range(low, high)).expression


def _value(word: str) -> bool | int | float | str:
    word = word.strip().strip("'\"")
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _choice(setting: str, path: str, values: list[Any], field: FieldRange, right: str) -> Domain:
    values = [int(value) if _is_whole(value) and field.kind == "whole" else value for value in values]
    if field.kind == "words":  # whose words may be true and false
        values = [str(value).lower() if isinstance(value, bool) else value for value in values]
    unfit = [value for value in values if value not in field]
    if unfit and field.kind == "words":
        values = list(dict.fromkeys(similar(str(value), field.words) or field.words[0] for value in values))
    elif unfit:
        values = [value for value in values if value in field]
    if unfit:
        near = Choice(tuple(values)).expression if len(values) > 1 else right
        raise SettingsError(f"{setting}: {unfit[0]} does not fit, {path} takes {field}", nearest=f"{path}={near}")
    values = list(dict.fromkeys(values))
    if len(values) == 1:
        raise SettingsError(f"{setting} is one value, nothing to search", nearest=f"{_setting_of(path)}={values[0]}")
    return Choice(tuple(values))


def _between(setting: str, path: str, kind: str, values: list[Any], field: FieldRange, right: str) -> Domain:
    if len(values) != 2 or any(isinstance(value, str) or not math.isfinite(value) for value in values):
        raise SettingsError(f"{setting} needs a lowest and a highest number", nearest=f"{path}={right}")
    low, high = values
    if low == high:
        raise SettingsError(f"{setting} is one value, nothing to search", nearest=f"{_setting_of(path)}={low}")
    wanted = "randint" if field.kind == "whole" else "uniform" if kind == "randint" else kind
    low, high = min(low, high), max(low, high)
    if wanted == "loguniform" and low <= 0:
        low = max(field.low, high / 1000) if high > 0 else 0
        fitting: Domain | None = Range(low, high, log=True).within(field) if low > 0 else None
        near = right if fitting is None else fitting.expression
        raise SettingsError(f"{setting}: a logarithm needs more than 0", nearest=f"{path}={near}")
    domain: Range | Whole = (
        Whole(math.ceil(low), math.floor(high)) if wanted == "randint" else Range(low, high, wanted == "loguniform")
    )
    fitting = domain.within(field)
    near = right if fitting is None else fitting.expression
    if wanted != kind or (wanted == "randint" and not all(_is_whole(value) for value in values)):
        raise SettingsError(f"{setting}: {path} takes {field}", nearest=f"{path}={near}")
    if any(end not in field for end in domain.ends):
        raise SettingsError(f"{setting} is outside the field's range, {field}", nearest=f"{path}={near}")
    if values[0] > values[1]:
        raise SettingsError(f"{setting} goes from high to low", nearest=f"{path}={near}")
    return domain


def _is_whole(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
