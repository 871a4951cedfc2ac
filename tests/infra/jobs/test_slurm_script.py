"""What Slurm's script does when its driver ends. Slurm and Ray are replaced by small programs, because the real ones
cannot be made to kill a driver in each way; they run in `tests/integration/test_slurm.py`."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from infra.jobs.slurm import Allocation, script

PROGRAMS = {
    "ray": """for word; do case $word in --temp-dir=*) folder=${word#*=} ;; esac; done
touch there; echo 127.0.0.1:1 > "$folder/ray_current_cluster"; exec sleep 60""",
    "scontrol": """echo "scontrol $*" >> asked
case $* in *hostnames*) echo localhost ;; *node*) echo NodeAddr=localhost ;; *) echo " JobState=RUNNING " ;; esac""",
    "scancel": 'echo "scancel $*" >> asked',
}


def driver(told: str) -> str:
    """A driver that runs until TERM, and then does `told`."""
    return f"exec bash -c 'trap \"{told}\" TERM; touch playing; while :; do sleep 0.05; done'"


@pytest.fixture
def job(tmp_path):
    """Runs the script with a driver, after so many restarts. If `sent` is a signal, the script gets it once the driver
    runs. Returns the script's exit code and its requests to Slurm at the end."""

    def run(play: str, sent: signal.Signals | None, restarts: int = 0) -> tuple[int, list[str]]:
        for name, body in PROGRAMS.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        (tmp_path / "job.sh").write_text(script(Allocation(), "x", str(tmp_path / "log"), tmp_path, play))
        slurms = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_ON_NODE": "1"}
        restarted = {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
        environment = {**os.environ, **slurms, **restarted, "SLURM_JOB_NODELIST": "localhost"}
        for left in ("playing", "asked"):
            (tmp_path / left).unlink(missing_ok=True)
        with (
            (tmp_path / "log").open("a") as log,  # as Slurm opens it
            subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment, stdout=log, stderr=log) as begun,
        ):
            if sent is not None:
                _await(tmp_path / "playing")
                begun.send_signal(sent)
            code = begun.wait(30)
        asked = (tmp_path / "asked").read_text().splitlines()
        return code, [line for line in asked if line.startswith(("scancel", "scontrol requeue"))]

    return run


def _await(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("told", ["exit 75", "exit 1", "trap - TERM; kill -TERM \\$\\$", "kill -SEGV \\$\\$"])
def test_whatever_a_driver_dies_of_that_was_told_to_end_its_job_goes_on(job, told):
    assert job(driver(told), signal.SIGTERM) == (75, ["scontrol requeue 7"])


@pytest.mark.parametrize("told", ["exit 75", "exit 1"])
def test_one_that_is_ended_for_good_cancels_itself(job, told):
    assert job(driver(told), signal.SIGUSR1) == (75, ["scancel 7"])


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_driver_that_nobody_told_ends_the_job_with_its_own_code(job, code):
    assert job(f"exec bash -c 'exit {code}'", None) == (code, [])


@pytest.mark.parametrize("code", [0, 2])
def test_a_driver_that_was_done_or_refused_has_no_more_to_do(job, code):
    assert job(driver(f"exit {code}"), signal.SIGTERM) == (code, [])


def test_one_whose_cluster_was_interrupted_by_itself_goes_on(job):
    """75 without a signal to the script: only the driver got one."""
    assert job("exec bash -c 'exit 75'", None) == (75, ["scontrol requeue 7"])


AT_ONCE = "exec bash -c 'exit 75'"
"""A driver that finds at its start that what a setting names is unavailable."""
AGAIN = (75, ["scontrol requeue 7"])


def test_one_that_ends_at_once_and_again_and_again_has_an_end(job, tmp_path):
    """A mistyped address never becomes available."""
    assert [job(AT_ONCE, None, restarts) for restarts in range(5)] == [AGAIN] * 4 + [(75, [])]
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("[job 7, start 5] 5 starts in vain, one after the other: the job ends. ")
    assert last.endswith("submit the same line again")


@pytest.mark.full
def test_one_that_was_preempted_any_number_of_times_is_always_requeued(job):
    told = [job(driver("exit 75"), signal.SIGTERM, restarts) for restarts in range(7)]
    assert told == [AGAIN] * 7
    assert job(AT_ONCE, None, 7) == AGAIN, "it had no start in vain before"
    assert job(driver("exit 75"), signal.SIGTERM, 8) == AGAIN
    assert [job(AT_ONCE, None, restarts) for restarts in range(9, 14)] == [AGAIN] * 4 + [(75, [])]
    assert job(AT_ONCE, None, 0) == AGAIN, "submitted again"
