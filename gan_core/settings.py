"""Frozen settings: `override("family.lr=1e-4")`, YAML in and out, errors that name the nearest right one.

Nothing here imports torch, so that a typing mistake is told in a fraction of a second.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo


class SettingsError(ValueError):
    """A user's mistake. The message is one line: the setting, its value, why it is wrong, and the nearest right one."""

    def __init__(self, wrong: str, nearest: str | None = None) -> None:
        """`wrong`: `key=value`, as the user typed it, and why it is wrong. `nearest`: what to type instead."""
        super().__init__(wrong if nearest is None else f"{wrong}; nearest: {nearest}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`: an equal last part first (`lr` -> `family.lr`), else by letters."""

    def likeness(candidate: str) -> float:
        part, wanted = candidate.rpartition(".")[2], name.rpartition(".")[2]
        whole = difflib.SequenceMatcher(None, name, candidate).ratio()
        same_section = 0.5 * (name.rpartition(".")[0] == candidate.rpartition(".")[0])
        return whole + difflib.SequenceMatcher(None, wanted, part).ratio() + (part == wanted) + same_section

    return max(sorted(known), key=likeness)


class Settings(BaseModel):
    """A frozen node of the tree; an unknown key is refused, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)

    @classmethod
    def load(cls, values: Mapping[str, Any], prefix: str = "") -> Self:
        """Builds and checks the tree. Raises SettingsError naming every wrong setting, below `prefix`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError("; ".join(_explain(item, cls, prefix) for item in error.errors())) from None

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """The tree that `to_yaml` wrote, or one written by hand. Raises SettingsError."""
        return cls.load(parse_yaml(text))

    def to_yaml(self) -> str:
        """The whole tree with its defaults, as a person would write it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def override(self, *assignments: str) -> Self:
        """A copy with `path=value` settings applied, e.g. `family.lr=1e-4`. Raises SettingsError."""
        return self.load(assign(self.chosen(), assignments, known=paths(self)))

    def chosen(self) -> dict[str, Any]:
        """What was set by hand, without the defaults: what an override starts from."""
        return self.model_dump(exclude_unset=True)


def parse_yaml(text: str) -> dict[str, Any]:
    """A YAML mapping. Raises SettingsError with the line if it is none."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"expected 'key: value' lines, found {type(values).__name__}")
    return values


def assign(values: dict[str, Any], assignments: Iterable[str], known: Iterable[str]) -> dict[str, Any]:
    """Sets `path=value` strings in a nested dict. A path outside `known` is refused with its nearest one;
    below a known node it is left to that node's own model, which knows better what to say."""
    known = list(known)
    nodes = {path.rpartition(".")[0] for path in known} - {""}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"'{assignment}' is not key=value; nearest: {nearest(path, known)}=...")
        parent, _, leaf = path.rpartition(".")
        if path not in known and parent not in nodes:
            raise SettingsError(f"unknown setting '{path}'; nearest: {nearest(path, known)}")
        node = values
        for part in filter(None, parent.split(".")):
            node[part] = node = _node(node.get(part))
        node[leaf] = _scalar(text)
    return values


def _node(value: Any) -> dict[str, Any]:
    """A section of a config: it may be left empty, or be a name alone (`family: wgan`)."""
    return value if isinstance(value, dict) else {} if value is None else {"name": value}


def paths(node: BaseModel | type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted path below a tree of settings (an instance also knows its family's own fields)."""
    found: list[str] = []
    fields = (node if isinstance(node, type) else type(node)).model_fields
    for attribute, field in fields.items():
        name = field.alias or attribute
        child = field.annotation if isinstance(node, type) else getattr(node, attribute)
        if isinstance(child, BaseModel) or (isinstance(child, type) and issubclass(child, BaseModel)):
            found += paths(child, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _scalar(text: str) -> Any:
    """`null` and lists are YAML; anything else stays text for the field's own type to read (YAML takes 1e-4
    for a word and `on` for a truth)."""
    if text in ("null", "~"):
        return None
    if re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d+", text) and float(text).is_integer():
        return int(float(text))  # 1e6 images are a whole number
    if text[:1] in ("[", "{"):
        return parse_yaml(f"value: {text}")["value"]
    return text


_WANTED = {
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "finite_number": "a finite number",
}


def _explain(item: Any, model: type[BaseModel], prefix: str) -> str:
    """One pydantic error as one phrase: path=value, what is wrong, the nearest right one."""
    path = prefix + ".".join(str(part) for part in item["loc"])
    kind, context, given = item["type"], item.get("ctx", {}), item["input"]
    field = _field(model, item["loc"])
    if kind == "extra_forbidden":
        section = isinstance(given, dict) and len(item["loc"]) == 1
        sections = [prefix + (one.alias or name) for name, one in model.model_fields.items()]
        known = sections if section else paths(model, prefix)
        return f"unknown setting '{path}'; nearest: {nearest(path, known)}"
    if kind == "missing":
        return f"{path} is missing; nearest: {path}={(field.examples or ['...'])[0] if field else '...'}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = context.get("ge", context.get("le"))
        side = "least" if "ge" in context else "most"
        return f"{path}={given} is out of range, at {side} {bound}; nearest: {path}={bound}"
    if kind in _WANTED:
        return f"{path}={given!r} is not {_WANTED[kind]}; nearest: {path}={_written(field.default) if field else '...'}"
    if kind == "literal_error" and field is not None:
        return unknown(path, given, list(get_args(field.annotation)))
    error = context.get("error")
    if isinstance(error, SettingsError):
        return str(error)
    return f"{path}={given!r}: {error or item['msg']}" if path else str(error or item["msg"])


def _written(value: object) -> str:
    """A value as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def unknown(path: str, given: object, known: Iterable[str]) -> str:
    """The phrase for a name that is none of the known ones."""
    known = list(known)
    return f"unknown {path} '{given}'; nearest: {nearest(str(given), known)} (known: {', '.join(known)})"


def _field(model: type[BaseModel], loc: tuple[Any, ...]) -> FieldInfo | None:
    node: Any = model
    field = None
    for part in loc:
        if not (isinstance(node, type) and issubclass(node, BaseModel)):
            return field
        field = next((field for name, field in node.model_fields.items() if part == (field.alias or name)), None)
        node = None if field is None else field.annotation
    return field
