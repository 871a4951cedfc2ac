"""Records the answers of every command line in this folder anew: `python -m tests.golden`."""

import tempfile
from pathlib import Path

from tests.golden.commands import HERE, answers, read, write

for name in sorted(path.stem for path in HERE.glob("*.txt")):
    lines = list(read(name))
    with tempfile.TemporaryDirectory() as folder:
        write(name, dict(zip(lines, answers(lines, Path(folder)), strict=True)))
