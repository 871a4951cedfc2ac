"""Small runs and searches that are disturbed, resumed until they end, and compared with undisturbed ones."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

from pipelines.runs import RunFolder
from tests.faults.driver_kills import differences, evaluated, words
from tests.faults.processes import descendants, gone, kill
from tests.pipelines.small_runs import SMALL, agree, command, digest, environment, named, rows, timeless

ROUNDS, LOG, EVALUATE, CHECKPOINT = 400, 10, 80, 40
TRIALS = 3
SECONDS = 300.0
"""A command that takes longer hangs."""
HOOKS = Path(__file__).parent / "hooks"
LEFTOVERS = ("*.tmp", ".step-*", "*.part")
"""Names of files that a killed writer leaves behind, for the next driver to delete."""


@dataclass(frozen=True)
class Game:
    """What is disturbed: a run of one family, or a search."""

    name: str
    workers: int

    def __str__(self) -> str:
        return f"{self.name} on {self.workers}"

    @property
    def verb(self) -> str:
        return "search" if self.name == "search" else "train"

    def begin(self, name: str, storage: Path, uri: str | None) -> list[str]:
        """The command that begins it."""
        settings = [f"compute.workers={self.workers}", *([] if uri is None else [f"tracking.uri={uri}"])]
        if self.name == "search":
            return words(name, storage, TRIALS, *settings)
        return [
            *("train", self.name, *SMALL, f"name={name}", f"storage.path={storage}", f"budget.rounds={ROUNDS}"),
            *(f"budget.log_every={LOG}", f"budget.eval_every={EVALUATE}", f"budget.checkpoint_every={CHECKPOINT}"),
            *(["family.n_critic=2"] if self.name == "wgan_gp" else []),
            *settings,
        ]

    def progress(self, folder: Path) -> float:
        """The share of its steps, or of a search's evaluations, that is logged."""
        if self.name == "search":
            return evaluated(folder / "journal.jsonl") / (TRIALS * 10)
        file = folder / "metrics.jsonl"
        return file.read_bytes().count(b"\n") / (ROUNDS / LOG) if file.is_file() else 0.0

    def lost(self, folder: Path, quiet: Path, client: MlflowClient) -> list[str]:
        """What the disturbed run lacks, has twice or has otherwise than the undisturbed one."""
        try:
            if self.name == "search":
                return [*differences(folder, quiet, client, TRIALS), *_left_over(folder)]
            return [*folder_losses(folder, quiet), *_in_mlflow(folder, client)]
        except (AssertionError, OSError, ValueError) as error:  # a file that is absent, a value that stands twice
            return [" ".join(str(error).split())[:150] or type(error).__name__]


def folder_losses(folder: Path, quiet: Path) -> list[str]:
    """What a run's folder lacks or has otherwise than the undisturbed one's, and unfinished files in it."""
    wrong = _left_over(folder)
    newest = [RunFolder(one).checkpoints()[-1] for one in (folder, quiet)]
    if newest[0].name != newest[1].name or digest(newest[0]) != digest(newest[1]):
        wrong.append(f"the weights of {newest[0].name}")
    ours, theirs = ([timeless(row) for row in rows(one)] for one in (folder, quiet))
    if ours != theirs:
        wrong.append(f"{len(theirs)} rows are {len(ours)}, {sum(row not in theirs for row in ours)} of them others")
    pictures = [{path.name: path.read_bytes() for path in RunFolder(one).pictures()} for one in (folder, quiet)]
    if pictures[0] != pictures[1]:
        wrong.append(f"pictures: {sorted(pictures[0])}, not {sorted(pictures[1])}")
    return wrong


def _in_mlflow(folder: Path, client: MlflowClient) -> list[str]:
    run = named(client, folder.name)
    wrong = [] if run.info.status == "FINISHED" else [f"MLflow has the run as {run.info.status}"]
    if not agree(client, run, folder):
        wrong.append("values in MLflow")
    files = [Path(item.path).name for item in client.list_artifacts(run.info.run_id, "images")]
    pictures = Counter(int(name.replace("%", "+").split("+")[2]) for name in files if name.endswith(".png"))
    wanted = dict.fromkeys((int(path.stem.split("-")[1]) for path in RunFolder(folder).pictures()), 1)
    if dict(pictures) != wanted:
        wrong.append(f"pictures in MLflow: {dict(pictures)}")
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    if not {"checkpoint", "experiment.yaml"} <= kept:
        wrong.append(f"artifacts in MLflow: {sorted(kept)}")
    return wrong


def _left_over(folder: Path) -> list[str]:
    left = {path for pattern in LEFTOVERS for path in folder.rglob(pattern) if "tune" not in path.parts}
    return [f"{len(left)} unfinished files"] if left else []


@dataclass
class Attempt:
    """One game that one fault meets."""

    game: Game
    storage: Path
    name: str
    draw: random.Random
    uri: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    """Environment of the disturbed command alone."""
    codes: list[int | str] = field(default_factory=list)
    """How its commands ended, first to last."""
    note: str = ""
    """What the fault did."""
    process: subprocess.Popen[str] | None = None

    @property
    def folder(self) -> Path:
        return self.storage / self.name

    @property
    def screen(self) -> Path:
        """All that its commands printed."""
        return self.storage / f"{self.name}.screen"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts the command that begins the game."""
        self._start(self.game.begin(self.name, self.storage, self.uri), self.variables)

    def _start(self, arguments: list[str], variables: Mapping[str, str]) -> None:
        with self.screen.open("a") as out:
            self.process = subprocess.Popen(
                command(*arguments),
                cwd=self.storage,
                env={**environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
            )

    def reach(self, share: float) -> bool:
        """Waits until that share of the game is played. Returns whether the command still runs."""
        deadline = time.monotonic() + SECONDS
        while self.running() and self.game.progress(self.folder) < share and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.running()

    def end(self) -> None:
        """Waits for the command, and for the processes below it that play."""
        assert self.process is not None
        below = descendants(self.process.pid)
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            below |= descendants(self.process.pid)
            time.sleep(0.1)
        if self.process.poll() is None:
            kill([self.process.pid, *below])
            self.process.wait()
            self.codes.append("hung")
            return
        self.codes.append(self.process.returncode)
        try:
            gone(below)
        except AssertionError as error:
            self.codes.append(str(error))
            kill(below)

    def finish(self) -> None:
        """Resumes until the game is played and MLflow has all of it, as the screen advises."""
        place = f"storage.path={self.storage}"
        for _ in range(4):
            if self.codes and self.codes[-1] in (0, 2):
                break
            begun = (self.folder / "experiment.yaml").is_file()
            again = [self.game.verb, "--resume", self.name, place]
            self._start(again if begun else self.game.begin(self.name, self.storage, self.uri), {})
            self.end()
        if (self.folder / "untracked").is_file():
            self._start(["sync", self.name, place], {})
            self.end()

    def lost(self, quiet: Path, client: MlflowClient) -> list[str]:
        """What was lost; also a traceback on the screen, and commands that never ended well."""
        wrong = self.game.lost(self.folder, quiet, client)
        if self.codes[-1] not in (0, 2):
            wrong.append(f"ends: {self.codes}")
        text = self.screen.read_text(errors="replace")
        if "Traceback" in text or "AssertionError" in text:
            wrong.append("a traceback on the screen")
        return wrong


def counting(folder: Path, counter: Path, fatal: int = 0) -> dict[str, str]:
    """Environment under which renames below `folder` are counted, and the one with the number `fatal` kills."""
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HOOKS), os.environ.get("PYTHONPATH", "")))),
        "GANFLEET_FAULT_RENAMES": str(counter),
        "GANFLEET_FAULT_BELOW": str(folder),
        "GANFLEET_FAULT_AT": str(fatal),
    }


def described(codes: list[int | str]) -> str:
    """How a command ended, for the table."""
    first = codes[0] if codes else "?"
    return f"killed ({signal.Signals(-first).name})" if isinstance(first, int) and first < 0 else str(first)
