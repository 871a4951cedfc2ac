"""Runs and searches as a notebook shows them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from infra.passwords import masked
from pipelines.console import number


def page(kind: str, name: str, about: Mapping[str, Any], pictures: Sequence[Path], *tables: str) -> str:
    """HTML that needs no other file: a heading, pictures, a table of what is known, and further tables."""
    images = "".join(_image(picture) for picture in pictures if picture.is_file())
    rows = "".join(f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in about.items())
    return f"<div><b>{_text(kind)} {_text(name)}</b><br>{images}<table>{rows}</table>{''.join(tables)}</div>"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in HTML."""
    head = "".join(f"<th>{_text(one)}</th>" for one in headings)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _image(file: Path) -> str:
    content = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{_text(file.stem)}" style="max-width: 512px" src="data:image/png;base64,{content}"><br>'


def _text(value: Any) -> str:
    return escape(masked(number(value) if isinstance(value, float) else str(value)))
