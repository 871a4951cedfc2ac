"""The page that lists every module, from the first paragraph of its docstring."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.package_arrows import OURS, module_files

API = Path(__file__).parents[1] / "api"


def modules() -> str:
    """All modules by package; those with a page of their own are links to it."""
    shown = {name for page in API.glob("*.md") for name in re.findall(r"(?m)^::: (\S+)$", page.read_text())}
    parts = ["# Modules", "Every module and what it has; names in links have their functions and classes on a page."]
    for root in OURS:
        parts += [f"## {root}", "| module | what it has |\n|---|---|"]
        rows = []
        for name, path in module_files([root]).items():
            text = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
            link = f"[`{name}`][{name}]" if name in shown else f"`{name}`"
            rows.append(f"| {link} | {' '.join(text.split())} |".replace("| |", "| - |"))
        parts[-1] += "\n" + "\n".join(rows)
    return "\n\n".join(parts)
