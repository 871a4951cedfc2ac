"""Slurm: the batch script of a job with its own Ray cluster, and jobs by sbatch, squeue and scancel."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.jobs.batch import ACTIVE, POLL_SECONDS, BatchError, State, find_program, run_program

TEMPLATE = Path(__file__).parents[1] / "deploy" / "slurm.sh"
_HINT = "a login node of the cluster, or leave out --apply to see the script"
_STATES: dict[str, State] = {
    "COMPLETED": "done",
    "CANCELLED": "stopped",
    **dict.fromkeys(("PENDING", "CONFIGURING", "PREEMPTED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"), "waiting"),
    **dict.fromkeys(("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"), "running"),
}


@dataclass(frozen=True)
class Allocation:
    """What a job requests from Slurm. None leaves the choice to Slurm's defaults."""

    nodes: int = 1
    cpus: int | None = None
    """Of each node; None requests whole nodes."""
    gpus: int = 0
    """Of each node."""
    memory: str | None = None
    """Of each node, as Slurm writes it: 16G."""
    time: str | None = None
    """As Slurm writes it: 2-12:00:00 is two and a half days."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None

    def options(self) -> list[str]:
        """The request as options of sbatch."""
        asked: list[tuple[str, object]] = [
            ("nodes", self.nodes),
            ("cpus-per-task", self.cpus),
            ("gpus-per-node", self.gpus or None),
            ("mem", self.memory),
            ("time", self.time),
            ("partition", self.partition),
            ("account", self.account),
            ("qos", self.qos),
        ]
        whole = ["--exclusive"] if self.cpus is None else []
        return [f"--{name}={value}" for name, value in asked if value is not None] + whole


def script(allocation: Allocation, name: str, log: str, programs: Path, play: str) -> str:
    """The batch script of a job.

    `log`: the absolute path of its output. `programs`: the folder of `ganfleet` and `ray`, which is put first on the
    PATH. `play`: the driver's shell lines, which end in `exec`.
    """
    options = [f"--job-name={name}", f"--output={log}", *allocation.options()]
    filled = {
        "#@SBATCH": "\n".join(f"#SBATCH {option}" for option in map(_quoted, options)),
        "#@PATH": f"export PATH={shlex.quote(str(programs))}:$PATH",
        "#@LOG": f"log={shlex.quote(log)}",
        "    #@PLAY": play.rstrip(),
    }
    text = TEMPLATE.read_text()
    for mark, lines in filled.items():
        assert text.count(f"\n{mark}\n") == 1, mark
        text = text.replace(f"\n{mark}\n", f"\n{lines}\n")
    return text


def _quoted(option: str) -> str:
    """An option as a line of #SBATCH. In a file name `%` is doubled, so that Slurm does not expand it."""
    name, _, value = option.partition("=")
    if name == "--output":
        value = value.replace("%", "%%")
    return f'{name}="{value}"' if " " in value else f"{name}={value}" if value else name


class Slurm:
    """The cluster of this machine's Slurm programs. A job's output is read from the shared disk."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def submit(self, text: str, job: str) -> str:
        """Submits a script by sbatch. Returns the job's number."""
        sbatch = find_program("sbatch", _HINT)
        return run_program([sbatch, "--parsable"], text).strip().partition(";")[0]

    def state(self, job: str) -> State:
        """What squeue reports. Slurm forgets a job some minutes after its end."""
        squeue = find_program("squeue", "a login node of the cluster")
        try:
            listed = run_program([squeue, "--noheader", "--states=all", f"--jobs={job}", "--format=%T"])
        except BatchError as error:
            if "Invalid job id" in str(error):
                return "ended"
            raise
        words = listed.split()
        return _STATES.get(words[0], "failed") if words else "ended"

    def follow(self, job: str) -> Iterator[str]:
        """The output file as it grows. A requeued job continues it."""
        seen = 0
        while True:
            active = self.state(job) in ACTIVE
            if self.log.exists() and self.log.stat().st_size > seen:
                with self.log.open("rb") as file:
                    file.seek(seen)
                    new = file.read()
                seen += len(new)
                yield new.decode(errors="replace")
            if not active:
                return
            time.sleep(POLL_SECONDS)

    def stop(self, job: str) -> None:
        """Ends the job for good. The script of a running job ends the driver first and then cancels the job."""
        scancel = find_program("scancel", "a login node of the cluster")
        run_program([scancel, "--signal=USR1", "--batch", job] if self.state(job) == "running" else [scancel, job])


def programs_of(python: str) -> Path:
    """The folder of a Python's programs. Links are kept: a virtual environment's Python is one."""
    return Path(os.path.abspath(python)).parent
