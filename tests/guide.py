"""The commands of README.md and of the pages in docs/, found and run as they are written there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SHELL = ("shell", "bash")
NEEDS = ("cluster", "server", "minutes")
"""Why a block is not run by a test of every day: `<!-- needs: cluster -->` stands above it."""


@dataclass(frozen=True)
class Block:
    """A block of code on a page, fenced or indented."""

    page: str
    line: int
    """Where it begins, from 1."""
    language: str
    """What stands after the fence; `shell` of an indented block."""
    title: str
    text: str
    needs: str
    """What its marker says, or nothing."""

    @property
    def commands(self) -> list[str]:
        """The shell's commands, each in one line."""
        joined = self.text.replace("\\\n", "")
        return [line for line in joined.splitlines() if line.strip()] if self.language in SHELL else []


def pages() -> list[str]:
    """Every page that a person wrote, by its path from the repository's root."""
    found = (str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
    return sorted(page for page in found if not page.startswith(("docs/RESULTS", "docs/results/")))


_FENCED = re.compile(r"(?ms)^```(\w*)([^\n]*)\n(.*?)^```$")
_INDENTED = re.compile(r"(?m)(?:^    [^\n]*\n)+")
_OF_THE_API = re.compile(r"(?m)^::: [^\n]*\n(?:    [^\n]*\n)+")
"""What mkdocstrings shows of a module, with its options."""
_MARKER = re.compile(r"<!-- needs: (\w+) -->\n\Z")


def blocks(page: str) -> list[Block]:
    """All blocks of code on a page, in their order."""
    text = (ROOT / page).read_text()
    found = []
    for match in _FENCED.finditer(text):
        title = re.search(r'title="([^"]*)"', match[2])
        found.append((match.start(), match[1], title[1] if title else "", match[3]))
    outside = text
    for other in (_FENCED, _OF_THE_API):
        outside = other.sub(lambda match: re.sub(r"[^\n]", "", match[0]), outside)
    for match in _INDENTED.finditer(outside):
        offset = _offset(text, outside[: match.start()].count("\n"))
        found.append((offset, "shell", "", re.sub("(?m)^    ", "", match[0])))
    return [
        Block(page, text[:start].count("\n") + 1, language, title, body, _needs(text[:start]))
        for start, language, title, body in sorted(found)
    ]


def _offset(text: str, lines: int) -> int:
    """Where the line after so many lines begins."""
    return sum(len(line) for line in text.splitlines(keepends=True)[:lines])


def _needs(before: str) -> str:
    marker = _MARKER.search(before)
    return marker[1] if marker else ""


def commands(page: str) -> list[str]:
    """A page's commands, in their order."""
    return [command for block in blocks(page) for command in block.commands]


def walked(
    page: str,
    home: Path,
    filled_in: Mapping[str, str],
    environment: Mapping[str, str],
    within: Sequence[str] = (),
    asked: Sequence[str] | None = None,
    programs: Path = Path(sys.executable).parent,
) -> dict[str, str]:
    """What each command of a page wrote, run one after the other by one shell whose $HOME is `home`; none may fail.

    `filled_in`: what stands on the page for what is the reader's own. `within`: a command that runs the shell inside.
    `asked`: these commands and not all of the page. `programs`: the folder of `ganfleet` and `python`.
    """
    asked = commands(page) if asked is None else asked
    lines = ["set -e"]
    for number, command in enumerate(asked):
        for placeholder, ours in filled_in.items():
            command = command.replace(placeholder, ours)
        lines += [f"exec >{shlex.quote(str(home))}/out-{number} 2>&1", command]
    here = {**environment, "HOME": str(home), "PATH": f"{programs}:{environment['PATH']}"}
    done = subprocess.run(
        [*within, "bash", "-c", "\n".join(lines)],
        cwd=home,
        env=here,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found = {command: (home / f"out-{number}") for number, command in enumerate(asked)}
    said = {command: file.read_text() for command, file in found.items() if file.exists()}
    assert done.returncode == 0, f"exit code {done.returncode} after {list(said)[-1:]}: {list(said.values())[-1:]}"
    return said
