"""A training run on a real Slurm: submitted, cancelled, submitted again, told to end and requeued; the same bits."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from gan_core import data
from gan_core.experiment import Data
from gan_core.measures import Metrics
from pipelines.evaluate.reference import prepare_reference
from pipelines.runs import import_own_code
from pipelines.runs._folder import RunFolder
from pipelines.settings._experiments import TrainExperiment
from pipelines.train.play import play
from tests.guide import walked
from tests.integration.slurm_node import SlurmNode, missing, slurm_node
from tests.pipelines.small_runs import OWN_GAN, SMALL, digest, rows, timeless

NAME, ROUNDS, EVERY = "far", 1500, 100
WORDS = (
    *(
        "train",
        "own_gan:Own",
        "compute.ship=mine",
        *SMALL,
        "family.n_critic=1",
        f"name={NAME}",
        f"budget.rounds={ROUNDS}",
    ),
    *(f"budget.log_every={EVERY}", f"budget.eval_every={ROUNDS}", f"budget.checkpoint_every={EVERY}"),
    *("slurm.cpus=2", "slurm.time=1:00:00"),
)


@dataclass(frozen=True)
class Story:
    """What happened, in order."""

    folder: RunFolder
    cancelled: tuple[str, dict[str, str], int]
    """The first job: its number, what Slurm said of it in the end, and the run's step then."""
    requeued: tuple[str, dict[str, str]]
    """The second one, after its second start."""
    stop: str
    listed: str
    log: str
    leftovers: list[str]


@pytest.fixture(scope="module", name="slurm_node")
def started_slurm_node(tmp_path_factory):
    reason = missing()
    if reason:
        pytest.skip(reason)
    with slurm_node(tmp_path_factory.mktemp("slurm")) as started:
        yield started


def said(node: SlurmNode, cwd: Path, *words: str) -> str:
    done = node.run(sys.executable, "-m", "pipelines.cli", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def until(found: Callable[[], bool], what: str, log: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        written = log.read_text()[-3000:] if log.exists() else "nothing"
        assert time.monotonic() < deadline, f"{what} did not come in {seconds} s; the job wrote: {written}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def story(slurm_node, tmp_path_factory) -> Story:
    place = tmp_path_factory.mktemp("place")
    folder, log = RunFolder(place / "runs" / NAME), place / "runs" / NAME / "slurm.log"
    began = set(Path("/tmp").glob("ganfleet.*"))

    def steps() -> int:
        return int(folder.checkpoints()[-1].name[5:]) if folder.checkpoints() else 0

    def ended(number: str) -> bool:
        return slurm_node.job(number)["JobState"] in ("CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL")

    mine = place / "mine" / "own_gan.py"
    mine.parent.mkdir()
    mine.write_text(OWN_GAN)
    first = said(slurm_node, place, "submit", "--to", "slurm", "--apply", *WORDS)
    mine.write_text("raise RuntimeError('not what was submitted')")
    until(lambda: steps() > 0 or ended(first), "a checkpoint", log)
    mine.write_text(OWN_GAN)
    stop = said(slurm_node, place, "jobs", "stop", NAME)
    until(lambda: ended(first), "the end of the cancelled job", log)
    cancelled, step = slurm_node.job(first), steps()
    second = said(slurm_node, place, "submit", "--to", "slurm", "--apply", *WORDS)
    until(lambda: steps() > step or ended(second), "a further checkpoint", log)
    assert slurm_node.run("scancel", "--signal=TERM", "--batch", second).returncode == 0
    until(lambda: slurm_node.job(second)["Restarts"] == "1" or ended(second), "the requeue", log)
    listed = said(slurm_node, place, "jobs")
    until(lambda: ended(second), "the end of the requeued job", log)
    left = sorted(str(path) for path in set(Path("/tmp").glob("ganfleet.*")) - began)
    written = said(slurm_node, place, "jobs", "logs", NAME)
    return Story(folder, (first, cancelled, step), (second, slurm_node.job(second)), stop, listed, written, left)


def test_a_cancelled_job_ends_and_stays_ended(story):
    number, about, step = story.cancelled
    assert about["JobState"] == "CANCELLED"
    assert about["Restarts"] == "0"
    assert 0 < step < ROUNDS
    assert story.stop.startswith(f"{NAME}: job {number} is told to end; to go on: ganfleet train --resume {NAME}")


def test_the_driver_was_told_and_could_end_well(story):
    assert story.log.count("interrupted; to go on: ganfleet train --resume far") == 2, story.log
    assert story.log.count("ended with exit code 75") == 2, story.log


def test_a_job_that_is_told_to_end_goes_back_into_the_queue_and_to_its_end(story):
    number, about = story.requeued
    assert (about["JobState"], about["Restarts"], about["ExitCode"]) == ("COMPLETED", "1", "0:0"), story.log
    assert f"[job {number}, start 1] back into the queue" in story.log
    assert f"[job {number}, start 2] ended with exit code 0" in story.log
    (line,) = [line for line in story.listed.splitlines() if line.startswith(NAME)]
    assert line.split()[:3] == [NAME, "slurm", number]


def test_nothing_is_left_behind(story):
    assert story.leftovers == []


def test_it_has_the_bits_of_a_run_that_nobody_disturbed(story, tmp_path):
    """One that was played at one go, in this process."""
    import_own_code(story.folder)
    experiment = TrainExperiment.from_yaml(story.folder.experiment.read_text())
    content = prepare_reference(
        Metrics(), data.load(Data(image_size=8)), story.folder.path.parent, Console(quiet=True)
    ).content
    alone = RunFolder(tmp_path / "alone")
    alone.path.mkdir()
    list(play(experiment, alone, content, target=None))
    assert [digest(path) for path in alone.checkpoints()] == [digest(path) for path in story.folder.checkpoints()]
    assert alone.checkpoints()[-1].name == f"step-{ROUNDS:06d}"
    ours, theirs = ([timeless(row) for row in rows(folder.path)] for folder in (alone, story.folder))
    assert ours == theirs


def test_the_guides_path_for_newcomers_leads_to_a_trained_run(slurm_node, tmp_path):
    doctor, script, number, listed, log, evaluated, search = walked(
        "docs/howto/slurm.md", tmp_path, {}, slurm_node.environment(), slurm_node.inside(())
    ).values()
    assert all(line.startswith("ok ") for line in doctor.splitlines())
    assert "#SBATCH --job-name=first\n" in script
    assert listed.splitlines()[1].split()[:3] == ["first", "slurm", number.splitlines()[0]]
    assert "after 100 generator updates" in log
    assert evaluated.startswith("fid ")
    assert "#SBATCH --nodes=2\n" in search
