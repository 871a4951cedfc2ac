"""Command lines whose answers are recorded in this folder, each answered by a process of its own.

`python -m tests.golden` records them anew; `tests/pipelines/cli/test_golden.py` compares.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.golden.forks import Answer, forked

HERE = Path(__file__).parent
WIDTH = 120
"""Columns of the screen, to which help is wrapped."""


def answers(lines: list[str], folder: Path) -> list[str]:
    """What each command line answers in a furnished folder: exit code, what it loaded and changed, standard output,
    standard error. Two processes answer every other line each, in folders of their own."""
    found = [""] * len(lines)
    cpus = sorted(os.sched_getaffinity(0))

    def answer(part: int) -> None:
        place = folder / str(part) / "place"
        furnish(place)
        commands = [(place, shlex.split(line)) for line in lines[part::2]]
        # Error lines name the number of CPUs, so each line sees one, whatever the machine has.
        said = forked(commands, environment_of(place.parent), cpu=cpus[part % len(cpus)])
        found[part::2] = [_recorded(one, place) for one in said]

    with ThreadPoolExecutor(2) as both:
        list(both.map(answer, range(2)))
    return found


def read(name: str) -> dict[str, str]:
    """The recorded answers of a file, by command line."""
    parts = (HERE / f"{name}.txt").read_text().split("\n$ ganfleet")[1:]
    return {line.strip(): answer.rstrip("\n") for line, _, answer in (part.partition("\n") for part in parts)}


def write(name: str, found: dict[str, str]) -> None:
    """Records the answers of a file."""
    text = "".join(f"\n$ ganfleet {line}".rstrip() + f"\n{answer}\n" for line, answer in found.items())
    (HERE / f"{name}.txt").write_text(text)


def _recorded(answer: Answer, place: Path) -> str:
    """Without what differs between machines and moments: folders, and names made up from the time."""
    assert answer.code != 2 or not answer.out, f"error lines belong to standard error: {answer.out}"
    said = (answer.out + answer.err).replace(str(place), "PLACE").replace(str(Path(sys.executable).parent), "BIN")
    said = re.sub(r"\b(\w+)-\d{4}-\d{6}\b", r"\1-NOW", said)
    did = [f"{what} {' '.join(names)}" for what in ("loaded", "changed") if (names := getattr(answer, what))]
    head = ", ".join([f"exit {answer.code}", *did])
    return "\n".join([head, *(line.rstrip() for line in said.splitlines())]).rstrip("\n")


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of every command line; `folder` has the home and the cache."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "GANFLEET_"))}
    plain = {"COLUMNS": str(WIDTH), "TERM": "dumb", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**kept, **plain, "GANFLEET_CACHE": str(folder / "cache"), "HOME": str(folder)}


def furnish(place: Path) -> None:
    """A working folder with two runs, two searches, a checkpoint, settings files and images; written by
    hand."""
    runs = place / "runs"
    for name in ("first", "by-images", "hunt", "sure"):
        (runs / name).mkdir(parents=True)
        (runs / name / "id.json").write_text(json.dumps({"id": "0" * 32, "origin": {}}))
        (runs / name / "experiment.yaml").write_text((HERE / "experiments" / f"{name}.yaml").read_text())
    (runs / "sure" / "best.yaml").write_text((HERE / "experiments" / "best.yaml").read_text())
    (runs / "sure" / "best.json").write_text('{"trial": "0a1b", "checkpoint": "confirm/none"}')
    (place / "experiment.yaml").write_text("family: wgan\n")
    (place / "old" / "step-002000").mkdir(parents=True)
    game = {"family": {"name": "wgan_gp", "latent": 64, "width": 32, "net": "auto"}}
    about = {"step": 2000, "shape": [1, 16, 16], "classes": 10, "experiment": game}
    (place / "old" / "step-002000" / "checkpoint.json").write_text(json.dumps(about))
    (place / "strangers.yaml").write_text("bugdet: {rounds: 5}\nfamily: wgan\n")
    (place / "broken.yaml").write_text("family: [\n")
    (place / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    (place / "a-file").write_text("")
    (place / "empty").mkdir()
    (place / "half").mkdir()
    (place / "half" / "manifest.json").write_text('{"format": 1, "na')
    (place / "photos").mkdir()
    (place / "photos" / "one.png").write_bytes(b"")
