"""Command lines, each answered by a fork of one process that has imported the command line."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 60
"""After which a fork is killed: a line that should have been refused may have started to train."""
HEAVY = ("mlflow", "numpy", "optuna", "ray", "torch")


@dataclass(frozen=True)
class Answer:
    """What a command line wrote and did."""

    code: int
    out: str
    err: str
    loaded: list[str]
    """The heavy packages that were imported at its end."""
    changed: list[str]
    """The files and folders of the working folder that it made, changed or deleted."""

    def mistake(self) -> str:
        """The one line that says what is wrong. Raises AssertionError if there is more, or anything was changed."""
        assert "Traceback" not in self.err, self.err
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        assert (self.code, self.out, self.changed) == (2, "", [])
        return line


def forked(
    commands: Sequence[tuple[Path, list[str]]],
    environment: Mapping[str, str],
    imported: Sequence[str] = (),
    cpu: int | None = None,
) -> list[Answer]:
    """Runs command lines, each in its working folder; all of them see one CPU if `cpu` names it."""
    asked = "".join(json.dumps([str(place), words]) + "\n" for place, words in commands)
    with subprocess.Popen(
        [sys.executable, "-c", "from tests.golden.forks import serve; serve()", *imported],
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if cpu is not None:
            os.sched_setaffinity(process.pid, {cpu})
        answers, wrong = process.communicate(asked)
    assert process.returncode == 0, wrong
    return [Answer(**json.loads(line)) for line in answers.splitlines()]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below, hidden ones too, with their contents."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def _answer(place: Path, words: list[str]) -> Answer:
    before = snapshot(place)
    with tempfile.TemporaryDirectory() as aside:
        out, err, loaded = (Path(aside, name) for name in ("out", "err", "loaded"))
        loaded.write_text("[]")
        child = os.fork()
        if not child:
            _run(place, words, out, err, loaded)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        after = snapshot(place)
        changed = [path for path in sorted({*before, *after}) if before.get(path, 0) != after.get(path, 0)]
        return Answer(code, out.read_text(), err.read_text(), json.loads(loaded.read_text()), changed)


def _run(place: Path, words: list[str], out: Path, err: Path, loaded: Path) -> None:
    """Runs one command line in this process, a fork, and ends it."""
    from pipelines import console
    from pipelines.cli import main

    console.SILENT_SECONDS = console.STATUS_SECONDS  # progress is shown on a slow machine only
    signal.alarm(SECONDS)
    os.chdir(place)
    for descriptor, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), descriptor)
    sys.argv = ["ganfleet", *words]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    loaded.write_text(json.dumps([name for name in HEAVY if name in sys.modules]))
    os._exit(code)


def serve() -> None:
    """Reads a line of JSON for each command line, `[working folder, words]`, and writes its answer as one. The modules
    that the arguments name are imported before the first fork."""
    from gan_core.family import family_class, family_names

    for name in ("pipelines.cli._main", *sys.argv[1:]):
        importlib.import_module(name)
    for name in family_names():  # else each fork imports its family's module
        family_class(name)
    gc.freeze()
    for line in sys.stdin:
        place, words = json.loads(line)
        print(json.dumps(asdict(_answer(Path(place), words))), flush=True)
