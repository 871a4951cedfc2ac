"""Pages of settings, read from the settings themselves: names, types, ranges, defaults, and a field's docstring."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from gan_core.experiment import DATA_NAMES
from gan_core.family import Words, family_class, family_names
from gan_core.measures import EXTRACTORS, MEASURES
from gan_core.settings import Settings
from pipelines.jobs._options import PlaceOptions
from pipelines.settings import SearchExperiment, TrainExperiment
from tune_spaces.domains import DOMAINS, SearchedFields

NAMED = {
    "data.name": ", ".join(f"`{name}`" for name in DATA_NAMES),
    "data.image_size": "`48`, `64x128`: sides from 8 to 512",
    "metrics.measures": ", ".join(f"`{name}`" for name in [*MEASURES][1:]) + ", `package.module:function`",
    "search.metric": ", ".join(f"`{name}`" for name in [*MEASURES, "package.module:function"]),
    "metrics.extractor": ", ".join(f"`{name}`" for name in [*EXTRACTORS, "package.module:Class"]),
}
"""Values of fields whose names are checked by a validator and not by their type."""

KINDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", Path: "path", NoneType: "`null`"}
Row = tuple[str, str, str, str]


def settings() -> str:
    """Every setting of a run, a search and a submission."""
    train, search = _tree(TrainExperiment), _tree(SearchExperiment)
    shared = [row for row in train if row in search]
    parts = [
        "# Settings",
        "A setting is given as `key=value` after the family's name; `--config FILE.yaml` reads them from a file, and"
        " `--dry-run` prints the resolved tree. An unknown key is refused with the nearest known one. `data=NAME` is"
        " short for `data.name=NAME`, `data=s3://...` for a pack there.",
        "A family's own hyper-parameters, `family.*`, are on [a page of their own](families.md).",
    ]
    for title, rows in (
        ("Of a run and of a search", shared),
        ("Of a training run alone", [row for row in train if row not in shared]),
        ("Of a search alone", [row for row in search if row not in shared]),
        ("Of a submission", _tree(PlaceOptions)),
    ):
        parts.append(f"## {title}")
        for section in dict.fromkeys(row[0].rpartition(".")[0] for row in rows):
            own = [row for row in rows if row[0].rpartition(".")[0] == section]
            parts += [f"### {section}.*"] if section else []
            parts.append(_table(own))
    return "\n\n".join(parts)


def families() -> str:
    """Each family's hyper-parameters, with the ranges that a search draws from."""
    parts = [
        "# Families and their hyper-parameters",
        "A family is one file below `gan_core/families/`; its fields are its hyper-parameters: `family.FIELD=VALUE`."
        " The last columns are where a search looks: `space=narrow` (the default) and `space=wide`; `-` is not searched"
        " unless you give a domain, for example `'space.width=choice(16,32)'`."
        " How to add one: [add a family](../howto/add-a-family.md).",
    ]
    for name in family_names():
        cls = family_class(name)
        module = inspect.getdoc(inspect.getmodule(cls)) or ""
        spaces = [SearchedFields(size).space(cls()) for size in DOMAINS]
        parts += [f"## {name}", module, inspect.getdoc(cls) or ""]
        lines = ["| `family.` | values | default | meaning | narrow | wide |", "|---|---|---|---|---|---|"]
        for key, values, default, meaning in _fields(cls, ""):
            lines.append(
                f"| `{key}` | {values} | {default} | {meaning} | "
                + " | ".join(_escaped(str(space.get(key, "-"))) for space in spaces)
                + " |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _tree(model: type[Settings], prefix: str = "") -> list[Row]:
    rows: list[Row] = []
    for row, field in zip(_fields(model, prefix), model.model_fields.values(), strict=True):
        child = field.annotation
        if isinstance(child, type) and issubclass(child, Settings) and child.__name__ != "Family":
            rows += _tree(child, f"{row[0]}.")
        else:
            rows.append(row)
    return rows


def _fields(model: type[Settings], prefix: str) -> Iterable[Row]:
    """Key, values, default and meaning of each field."""
    meanings = described(model)
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        yield (
            key,
            NAMED.get(key) or _values(field),
            _default(field),
            _escaped(meanings.get(name) or field.description or ""),
        )


def described(model: type) -> dict[str, str]:
    """The string after each field of a class and its bases."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, Settings) or cls is Settings:
            continue
        (body,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for node, text in _with_string(body.body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = text or found.get(node.target.id, "")
    return found


def _with_string(body: list[ast.stmt]) -> Iterable[tuple[ast.stmt, str]]:
    """Each statement with the string that follows it."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        yield node, inspect.cleandoc(text) if isinstance(text, str) else ""


def _values(field: FieldInfo) -> str:
    return _bounded(_type(field.annotation), field.metadata)


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        flat = [one for item in metadata for one in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _bounded(_type(inner), flat)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in get_args(annotation)))
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if origin in (tuple, list):
        return "a list"
    if origin is dict:
        return "a mapping"
    if isinstance(annotation, type) and annotation.__name__ == "Family":
        return "a family"
    return KINDS.get(annotation, "value")


def _bounded(kind: str, metadata: Iterable[Any]) -> str:
    metadata = list(metadata)
    words = next((one for one in metadata if isinstance(one, Words)), None)
    if words is not None:
        more = "several joined by `+`" if words.joined else "`package.module:Name`"
        return ", ".join(f"`{one}`" for one in words.known) + f", or {more}"
    low = next((f"from {one.ge}" for one in metadata if getattr(one, "ge", None) is not None), "")
    low = next((f"above {one.gt}" for one in metadata if getattr(one, "gt", None) is not None), low)
    high = next((f"to {one.le}" for one in metadata if getattr(one, "le", None) is not None), "")
    return " ".join(filter(None, (kind, low, high)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | list):
        return "`[]`"
    return f"`{value}`" if isinstance(value, int | float | str | Path) else ""


def _table(rows: Iterable[Row]) -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| `{key}` | {values} | {default} | {text} |" for key, values, default, text in rows)])


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
