"""Command lines whose answers are recorded in this folder, each answered by a process of its own.

`python -m tests.golden` records them anew; `tests/cli/test_golden.py` compares.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WIDTH = 120
"""Columns of the screen: help is wrapped to it."""

# Each line of standard input is answered in a fork, so that the command line's modules are imported once. One CPU is
# seen, whatever the machine has: error lines name the number.
_FORKS = """
SECONDS = 60  # a line that is no mistake would begin to train
import json, os, signal, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pipelines.cli import main
for line in sys.stdin:
    place, words = json.loads(line)
    out, err = (os.path.join(place, "..", name) for name in ("out", "err"))
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        os.chdir(place)
        for descriptor, name in ((1, out), (2, err)):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
        sys.argv = ["ganfleet", *words]
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, open(out).read(), open(err).read()]), flush=True)
"""


def answers(lines: list[str], folder: Path) -> list[str]:
    """What each command line answers, typed in `folder/place`: exit code, standard output, then standard error."""
    place = folder / "place"
    furnish(place)
    asked = "".join(json.dumps([str(place), shlex.split(line)]) + "\n" for line in lines)
    done = subprocess.run(
        [sys.executable, "-c", _FORKS],
        input=asked,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    return [_normal(*json.loads(answer), place) for answer in done.stdout.splitlines()]


def read(name: str) -> dict[str, str]:
    """The recorded answers of a file, by command line."""
    parts = (HERE / f"{name}.txt").read_text().split("\n$ ganfleet")[1:]
    return {line.strip(): answer.rstrip("\n") for line, _, answer in (part.partition("\n") for part in parts)}


def write(name: str, found: dict[str, str]) -> None:
    """Records the answers of a file."""
    text = "".join(f"\n$ ganfleet {line}".rstrip() + f"\n{answer}\n" for line, answer in found.items())
    (HERE / f"{name}.txt").write_text(text)


def _normal(code: int, out: str, err: str, place: Path) -> str:
    """Without what differs between machines and moments: folders, and names made up from the time."""
    said = (out + err).replace(str(place), "PLACE").replace(str(Path(sys.executable).parent), "BIN")
    said = re.sub(r"\b(\w+)-\d{4}-\d{6}\b", r"\1-NOW", said)
    said = "".join(f"{line.rstrip()}\n" for line in said.splitlines())
    return f"exit {code}\n{said}".rstrip("\n")


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "GANFLEET_"))}
    plain = {"COLUMNS": str(WIDTH), "TERM": "dumb", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**kept, **plain, "PYTHONPATH": str(ROOT), "GANFLEET_CACHE": str(folder / "cache"), "HOME": str(folder)}


def furnish(place: Path) -> None:
    """A working folder with two runs, two searches, settings files and images; written by hand."""
    runs = place / "runs"
    for name in ("first", "by-images", "hunt", "sure"):
        (runs / name).mkdir(parents=True)
        (runs / name / "id.json").write_text(json.dumps({"id": "0" * 32, "origin": {}}))
        (runs / name / "experiment.yaml").write_text((HERE / "experiments" / f"{name}.yaml").read_text())
    (runs / "sure" / "best.yaml").write_text((HERE / "experiments" / "best.yaml").read_text())
    (runs / "sure" / "best.json").write_text('{"trial": "0a1b", "checkpoint": "confirm/none"}')
    (place / "experiment.yaml").write_text("family: wgan\n")
    (place / "strangers.yaml").write_text("bugdet: {rounds: 5}\nfamily: wgan\n")
    (place / "broken.yaml").write_text("family: [\n")
    (place / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    (place / "a-file").write_text("")
    (place / "empty").mkdir()
    (place / "photos").mkdir()
    (place / "photos" / "one.png").write_bytes(b"")
