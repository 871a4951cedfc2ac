"""The commands of docs/CLUSTERS.md and README.md, run as they are written there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
GUIDE = README.with_name("docs") / "CLUSTERS.md"


def commands(section: str) -> list[str]:
    """The guide's lines of shell below a heading."""
    return shell_lines(GUIDE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0])


def shell_lines(text: str) -> list[str]:
    """The indented lines of a text, each with those that continue it."""
    found: list[str] = []
    continued = False
    for line in (line.strip() for line in text.splitlines() if line.startswith("    ")):
        found += [] if continued else [""]
        continued = line.endswith("\\")
        found[-1] += line.removesuffix("\\")
    return found


def walked(
    section: str, home: Path, filled_in: Mapping[str, str], environment: Mapping[str, str], within: Sequence[str] = ()
) -> dict[str, str]:
    """What each command wrote, run one after the other by one shell whose $HOME is `home`; none may fail.

    `filled_in`: what stands in the guide for what is the reader's own. `within`: a command that runs the shell inside.
    """
    asked = commands(section)
    lines = ["set -e"]
    for number, command in enumerate(asked):
        for placeholder, ours in filled_in.items():
            command = command.replace(placeholder, ours)
        lines += [f"exec >out-{number} 2>&1", command]
    here = {**environment, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    done = subprocess.run(
        [*within, "bash", "-c", "\n".join(lines)],
        cwd=home,
        env=here,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    found = {command: (home / f"out-{number}") for number, command in enumerate(asked)}
    said = {command: file.read_text() for command, file in found.items() if file.exists()}
    assert done.returncode == 0, f"exit code {done.returncode} after {list(said)[-1:]}: {list(said.values())[-1:]}"
    return said
