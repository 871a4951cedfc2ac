"""Executes a notebook of docs/ as a reader would, in a folder of its own.

python -m tests.docs.notebook    # executes docs/howto/own-gan.ipynb, and writes it back with its outputs
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "howto" / "own-gan.ipynb"
SECONDS = 600
"""Within which a cell must end."""


def executed(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in `folder`. Raises CellExecutionError."""
    content = nbformat.read(notebook, as_version=4)
    environment = {**os.environ, "GANFLEET_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    client = NotebookClient(content, timeout=SECONDS, resources={"metadata": {"path": str(folder)}})
    return client.execute(env=environment)


def kept(content: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook as docs/ keeps it: without the machine's paths and times, and without the progress on the way."""
    for cell in content.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.output_type != "stream" and not _is_empty(one)]
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)  # the PNG is enough
    content.metadata = {key: content.metadata[key] for key in ("kernelspec",)}
    text = nbformat.writes(content).replace(str(folder), "/home/me")
    return nbformat.reads(text, as_version=4)


def _is_empty(output: nbformat.NotebookNode) -> bool:
    """Whether it is the output of a bar that has ended."""
    return not re.sub(r"\s", "", str(output.get("data", {}).get("text/html", "-")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        nbformat.write(kept(executed(NOTEBOOK, Path(made)), Path(made)), NOTEBOOK)
