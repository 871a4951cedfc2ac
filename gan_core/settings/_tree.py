"""The tree of settings: read from YAML and from assignments, and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from gan_core.settings._nearest import nearest_key, similar, unknown


class SettingsError(ValueError):
    """A user's mistake, in one line: the setting, its value, why it is wrong, and the nearest right value."""

    def __init__(self, wrong: str, nearest: str | None = None) -> None:
        """`wrong`: `key=value`, as the user typed it, and why it is wrong. `nearest`: what to type instead."""
        super().__init__(wrong if nearest is None else f"{wrong}; nearest: {nearest}")


class Settings(BaseModel):
    """A frozen node of the settings tree. An unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)

    @classmethod
    def load(cls, values: Mapping[str, Any], prefix: str = "") -> Self:
        """Builds and checks the tree. Raises SettingsError that names each wrong setting, with `prefix` before it."""
        try:
            return cls.model_validate(_by_field(cls, values))
        except ValidationError as error:
            raise SettingsError("; ".join(str(_explain(item, cls, prefix)) for item in error.errors())) from None

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Reads what `to_yaml` or a person wrote. Raises SettingsError."""
        return cls.load(parse_settings(text))

    def to_yaml(self) -> str:
        """The whole tree, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def override(self, *assignments: str) -> Self:
        """A copy with `path=value` settings applied, such as `family.lr=1e-4`. Raises SettingsError."""
        return self.load(assign(self.chosen(), assignments, known=paths(self)))

    def chosen(self) -> dict[str, Any]:
        """The values that were set explicitly, without defaults. An override starts from them."""
        return self.model_dump(exclude_unset=True)


class Written(str):
    """A word as the user wrote it. Its field decides whether it is text: a run may have the name 1e3."""

    meaning: Callable[[], Any]
    """What the word means where it is not text."""

    def __new__(cls, text: str, meaning: Callable[[], Any]) -> Self:
        """A word with its meaning."""
        word = super().__new__(cls, text)
        word.meaning = meaning
        return word


class _WrittenLoader(yaml.SafeLoader):
    """YAML whose unquoted numbers, truths and dates are `Written`."""


def _written_scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    value = yaml.SafeLoader.yaml_constructors[node.tag](loader, node)
    return value if node.style else Written(node.value, lambda: value)


for _kind in ("int", "float", "bool", "timestamp"):
    _WrittenLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _written_scalar)


def parse_settings(text: str) -> dict[str, Any]:
    """As `parse_yaml`, for `Settings.load`: what looks like a number, a truth or a date is `Written`."""
    return _mapping(text, _WrittenLoader)


def parse_yaml(text: str) -> dict[str, Any]:
    """The mapping that a YAML text holds. Raises SettingsError, with the line, for anything else."""
    return _mapping(text, yaml.SafeLoader)


def _mapping(text: str, loader: type[yaml.SafeLoader]) -> dict[str, Any]:
    try:
        values = yaml.load(text, loader) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"expected 'key: value' lines, found {type(values).__name__}")
    return values


def assign(values: dict[str, Any], assignments: Iterable[str], known: Iterable[str]) -> dict[str, Any]:
    """Sets `path=value` strings in a nested dict and returns it.

    Raises SettingsError, with the nearest path, for a path outside `known`. A path directly below a known section is
    let through: the section's own model reports it better.
    """
    known = list(known)
    nodes = {path.rpartition(".")[0] for path in known} - {""}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not path:
            raise SettingsError(f"'{assignment}' has no key", nearest=f"key{assignment}")
        if not equals:
            found = similar(path, known)
            raise SettingsError(
                f"'{assignment}' is not key=value", nearest="key=value" if found is None else f"{found}=..."
            )
        parent, _, leaf = path.rpartition(".")
        if path not in known and parent not in nodes:
            raise SettingsError(f"unknown setting '{path}'", nearest=nearest_key(path, known))
        node = values
        for part in filter(None, parent.split(".")):
            node[part] = node = _node(node.get(part))
        node[leaf] = Written(text, partial(_scalar, text))
    return values


def _node(value: Any) -> dict[str, Any]:
    """A section of a config as a dict. In YAML a section may be empty, or a name alone (`family: wgan`)."""
    return value if isinstance(value, dict) else {} if value is None else {"name": value}


def by_path(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A nested dict by dotted paths: `{"family.lr": 1e-4}`. An empty dict is a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= by_path(value, f"{before}{key}.") if isinstance(value, dict) and value else {f"{before}{key}": value}
    return found


def paths(node: BaseModel | type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted path of a settings tree. Of an instance this includes its family's own fields."""
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


def _by_field(model: type[BaseModel], values: Any) -> Any:
    """The values of a tree, each `Written` one as its field takes it. Those of unknown fields are left."""
    if not isinstance(values, Mapping):
        return values
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    return {str(key): _of_field(fields[key], value) if key in fields else value for key, value in values.items()}


def _of_field(field: FieldInfo, value: Any) -> Any:
    kinds = _kinds(field.annotation)
    if isinstance(value, Written) and (str in kinds or Path in kinds):
        return None if value == "null" and NoneType in kinds else str(value)
    nodes = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if not nodes or isinstance(value, Written):
        value = _meaning(value)
    return _by_field(nodes[0], value) if nodes else value


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation names, `str` for a choice of words, and the items' types of a tuple of trees."""
    origin, given = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {type(choice) for choice in given}
    if origin is Annotated:
        return _kinds(given[0])
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, given))
    if origin is tuple:
        return {kind for one in given for kind in _kinds(one) if isinstance(kind, type) and issubclass(kind, BaseModel)}
    return {annotation}


def _meaning(value: Any) -> Any:
    """A value outside of text fields, without `Written` words."""
    if isinstance(value, Written):
        return value.meaning()
    if isinstance(value, Mapping):
        return {str(key): _meaning(one) for key, one in value.items()}
    return [_meaning(one) for one in value] if isinstance(value, list) else value


def _scalar(text: str) -> Any:
    """`null`, lists and mappings are parsed as YAML. Anything else stays text, which the field's own type parses:
    YAML would read 1e-4 as a string and `on` as true."""
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


def _explain(item: Any, model: type[BaseModel], prefix: str) -> SettingsError:
    """One pydantic error as ours: path=value, what is wrong, the nearest right value."""
    path = prefix + ".".join(str(part) for part in item["loc"])
    kind, context, given = item["type"], item.get("ctx", {}), item["input"]
    field = _field(model, item["loc"])
    if kind == "extra_forbidden":
        section = isinstance(given, dict) and len(item["loc"]) == 1
        sections = [prefix + (one.alias or name) for name, one in model.model_fields.items()]
        known = sections if section else paths(model, prefix)
        return SettingsError(f"unknown setting '{path}'", nearest=nearest_key(path, known))
    if kind == "missing":
        example = (field.examples or ["..."])[0] if field else "..."
        return SettingsError(f"{path} is missing", nearest=f"{path}={example}")
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = context.get("ge", context.get("le"))
        side = "least" if "ge" in context else "most"
        return SettingsError(f"{path}={given} is out of range, at {side} {bound}", nearest=f"{path}={bound}")
    if kind in ("greater_than", "less_than"):
        bound, side = (context["gt"], "more") if "gt" in context else (context["lt"], "less")
        right = bound + 1 if side == "more" else bound - 1
        return SettingsError(f"{path}={given} is out of range, {side} than {bound:g}", nearest=f"{path}={right:g}")
    if kind in _WANTED:
        default = _written(field.default) if field else "..."
        return SettingsError(f"{path}={given!r} is not {_WANTED[kind]}", nearest=f"{path}={default}")
    if kind == "literal_error" and field is not None:
        return SettingsError(unknown(path, given, list(get_args(field.annotation))))
    error = context.get("error")
    if isinstance(error, SettingsError):
        return error
    why = str(error or item["msg"])
    return SettingsError(f"{path}={given!r}: {why}" if path else why)


def _written(value: object) -> str:
    """A value as one types it on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _field(model: type[BaseModel], loc: tuple[Any, ...]) -> FieldInfo | None:
    """The field that pydantic's location `loc` names, if there is one."""
    node: Any = model
    field = None
    for part in loc:
        if not (isinstance(node, type) and issubclass(node, BaseModel)):
            return field
        field = next((field for name, field in node.model_fields.items() if part == (field.alias or name)), None)
        node = None if field is None else field.annotation
    return field
