"""`ganfleet submit`: a command line of train or search as a batch job. Errors are raised before it is submitted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gan_core.files import cache_folder
from gan_core.settings import SettingsError, unknown
from infra.jobs import kuberay, slurm
from infra.jobs.batch import BatchError
from infra.jobs.ray_jobs import address_from
from infra.stores.protocol import StoreError
from infra.versions import version_of
from pipelines.code import folder_of, own_modules
from pipelines.jobs._options import Place, PlaceOptions, checked_place, split_place_options
from pipelines.jobs._registry import Job
from pipelines.jobs._resubmit import as_resumption, shell_lines
from pipelines.launch import CommandLine, Request, keep_shipped, search_request, train_request
from pipelines.runs import RunFolder
from pipelines.settings import check_capacity

VERBS = ("train", "search")


@dataclass(frozen=True)
class Submission:
    """A request and the place that will run it; both passed all checks."""

    verb: str
    request: Request[Any]
    place: Place
    options: PlaceOptions
    line: CommandLine
    play: str
    """Shell lines that start or resume the run."""

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return self.request.folder

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.path.name


def checked(verb: str, line: CommandLine, to: str | None) -> Submission:
    """Checks everything that can be checked before a job is submitted. Raises SettingsError."""
    place = checked_place(to)
    if verb not in VERBS:
        if not verb:
            raise SettingsError("submit needs a verb", nearest="submit train")
        raise SettingsError(unknown("verb", verb, VERBS))
    options, assignments = split_place_options(place, line.assignments)
    line = replace(line, assignments=assignments)
    typed: Request[Any] = train_request(line) if verb == "train" else search_request(line)
    request, changes = as_resumption(verb, line, typed)
    cluster = options.capacity(place)
    if cluster is not None:
        check_capacity(request.experiment, cluster)
    if place == "kuberay":
        _check_volume(options.kuberay.claim, request)
    return Submission(verb, request, place, options, line, shell_lines(verb, line, request, changes))


def _check_volume(claim: str | None, request: Request[Any]) -> None:
    """Raises SettingsError for results that would be lost with their pods, and for a volume without results."""
    home, remote = request.folder.home, request.experiment.storage.remote
    if claim is not None and remote:
        raise SettingsError(
            f"kuberay.claim={claim} is mounted at storage.path, and {home} is no folder", nearest="leave it out"
        )
    if claim is None and not remote:
        raise SettingsError(
            f"storage.path={home} is in no volume of the pods, and is lost with them",
            nearest="kuberay.claim=NAME of a volume to be mounted there, or storage.path=s3://BUCKET/PREFIX"
            " tracking.uri=http://HOST:PORT",
        )


def rendered(submission: Submission, job: str) -> str:
    """What is submitted to the place as `job`: a script, a manifest, or a command."""
    if submission.place == "slurm":
        allocation, log = submission.options.slurm.allocation(), slurm_log(submission)
        programs = slurm.programs_of(sys.executable)
        return slurm.script(allocation, submission.name, log, programs, submission.play)
    if submission.place == "kuberay":
        pods, storage = submission.options.kuberay.pods(), submission.folder.home
        manifest = kuberay.ray_job(pods, job, submission.name, submission.play, storage, version_of("ray"))
        return kuberay.to_yaml(manifest)
    return submission.play


def slurm_log(submission: Submission) -> str:
    """The file with a job's output, on a disk that this machine and the nodes see.

    The output of a run in S3 goes to the current folder, because every machine has its own copy of the run's folder.
    """
    if submission.request.experiment.storage.remote:
        return str(Path.cwd() / f"{submission.name}.slurm.log")
    return str(submission.folder.path / "slurm.log")


def next_job(submission: Submission, address: str | None) -> Job:
    """The job that a submission creates, with the number of the attempt. Raises SettingsError if a job of the run waits
    or runs, or if the address of the Ray cluster is unknown."""
    if submission.place == "slurm":
        where: str | None = slurm_log(submission)
    elif submission.place == "kuberay":
        where = submission.options.kuberay.namespace
    else:
        where = address_from(address)
    if where is None:
        raise SettingsError("--to ray needs a cluster", nearest="--address http://HOST:8265, or RAY_ADDRESS")
    before = None if submission.request.made_up else Job.read(submission.folder)
    attempt = before.attempt + 1 if before else 1
    if before is not None and before.active():
        raise SettingsError(
            f"name={submission.name} is in job {before.id} of {before.to} already",
            nearest=f"ganfleet jobs stop {submission.name}{submission.request.experiment.storage.command_suffix}",
        )
    name = submission.name
    called = kuberay.job_name(name, attempt) if submission.place == "kuberay" else f"{name}-{attempt}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Job(name, submission.place, called, where, submission.verb, attempt, now)


def send(submission: Submission, address: str | None, say: Callable[[str], None]) -> Job:
    """Submits the next job and records it in the run's folder. Returns it with the id that the place gave it.

    `say` is called with what a person should know of the modules that are shipped. Raises SettingsError.
    """
    job = next_job(submission, address)
    if submission.request.made_up:
        submission = _reserved(submission)
        job = next_job(submission, address)
    path = submission.folder.path
    try:
        with _as_not_writable(submission.folder):
            path.mkdir(parents=True, exist_ok=True)
            shipped = keep_shipped(submission.request.experiment, submission.folder)
            job = replace(job, id=job.batch.submit(rendered(submission, job.id), job.id))
            job.write(submission.folder)
            for line in shipped:
                say(line)
    except StoreError as error:
        raise SettingsError(f"storage.path={submission.folder.home}: {error}", nearest="ganfleet doctor") from None
    except BatchError as error:
        if not submission.folder.exists() and not submission.folder.job.is_file():
            submission.folder.delete(submission.folder.code)
        with suppress(OSError):
            path.rmdir()
        raise SettingsError(str(error)) from None
    return job


def unshipped(submission: Submission) -> list[str]:
    """Lines that name the user's modules that nodes may lack. Those of Slurm see the folder of who submits."""
    experiment = submission.request.experiment
    if submission.place not in ("ray", "kuberay"):
        return []
    shipped = {*experiment.compute.ship, cache_folder() / "code"}
    found = {name: folder_of(name) for name in sorted(own_modules(experiment))}
    return [
        f"{name} is imported from {folder}; for nodes that lack it: compute.ship={folder}"
        for name, folder in found.items()
        if folder is not None and shipped.isdisjoint({folder, folder / f"{name}.py", folder.parent})
    ]


def _reserved(submission: Submission) -> Submission:
    """Makes the folder of a run whose name was made up: no other submission gets the name at the same time."""
    request, first = submission.request, submission.folder
    with _as_not_writable(first):
        while True:
            try:
                request.folder.path.mkdir(parents=True)
                play = shell_lines(submission.verb, submission.line, request, [])
                return replace(submission, request=request, play=play)
            except FileExistsError:
                request = request.renamed(first.free_name())


@contextmanager
def _as_not_writable(folder: RunFolder) -> Iterator[None]:
    """Raises an OSError as SettingsError."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"storage.path={folder.path.parent} cannot be written to from here, where jobs are remembered:"
            f" {error.strerror}",
            nearest="storage.path=runs",
        ) from None
