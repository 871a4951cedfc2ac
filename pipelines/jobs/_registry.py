"""Submitted jobs: `NAME/job.json` records where each one runs, and one interface asks every kind of place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gan_core.settings import SettingsError, nearest
from infra.files import write_atomic
from infra.jobs.batch import ACTIVE, Batch, BatchError, State
from infra.jobs.kuberay import KubeRay
from infra.jobs.ray_jobs import RayJobs
from infra.jobs.slurm import Slurm
from pipelines.jobs._options import Place
from pipelines.runs import RunFolder, names_with_file, run_folder
from pipelines.settings import Storage, as_settings_error


@dataclass(frozen=True)
class Job:
    """The last submission of a run or search; the next submission of the same name replaces it."""

    name: str
    to: Place
    id: str
    """The job's id at that place."""
    where: str
    """Slurm: the file with the job's output. Ray: the cluster's address. KubeRay: the namespace."""
    verb: str
    attempt: int
    submitted: str
    """The time in UTC, ISO 8601."""

    def write(self, folder: RunFolder) -> None:
        """Writes the record into the run's folder."""
        write_atomic(folder.job, json.dumps(asdict(self), indent=1).encode())
        folder.upload(folder.job)

    @staticmethod
    def read(folder: RunFolder) -> Job | None:
        """The run's job; None if the run was never submitted.

        Raises SettingsError if the file is damaged or the store does not answer.
        """
        with as_settings_error(f"storage.path={folder.home}"):
            folder.refresh_file(folder.job)
        if not folder.job.is_file():
            return None
        try:
            values = json.loads(folder.job.read_text())
            return Job(**{field.name: values[field.name] for field in fields(Job)})
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{folder.job} is damaged: {error}", nearest="delete it") from None

    @property
    def batch(self) -> Batch:
        """The batch system that runs it."""
        if self.to == "slurm":
            return Slurm(Path(self.where))
        return KubeRay(self.where) if self.to == "kuberay" else RayJobs(self.where)

    def active(self) -> bool:
        """Whether it waits or runs. If the place does not answer, the job counts as lost."""
        try:
            return self.batch.state(self.id) in ACTIVE
        except BatchError:
            return False


def known_jobs(storage: Storage) -> list[Job]:
    """All jobs below a storage path, oldest first."""
    folders = [run_folder(storage, name) for name in names_with_file("job.json", storage)]
    return sorted((job for folder in folders if (job := Job.read(folder))), key=lambda job: job.submitted)


def find_job(name: str, storage: Storage) -> Job:
    """The job of that name. Raises SettingsError with the nearest name."""
    job = Job.read(run_folder(storage, name))
    if job is None:
        names = [one.name for one in known_jobs(storage)]
        right = nearest(name, names) if names else "none, nothing was submitted yet"
        raise SettingsError(f"no job named '{name}' in {storage.location}", nearest=right)
    return job


def active_job(folder: RunFolder) -> Job | None:
    """The run's job, if that waits or runs."""
    job = Job.read(folder)
    return job if job is not None and job.active() else None


def job_table(storage: Storage) -> list[str]:
    """One line for each job: name, place, id, state, time of submission."""
    rows = [("name", "place", "id", "state", "submitted")]
    for job in known_jobs(storage):
        rows.append((job.name, job.to, job.id, _state(job), job.submitted))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _state(job: Job) -> State | str:
    try:
        return job.batch.state(job.id)
    except BatchError as error:
        return f"? ({error})"


def follow(name: str, storage: Storage) -> Iterator[str]:
    """The output of a job, until the job has ended. Raises SettingsError."""
    job = find_job(name, storage)
    try:
        yield from job.batch.follow(job.id)
    except BatchError as error:
        raise SettingsError(str(error)) from None


def stop(name: str, storage: Storage) -> Job:
    """Ends a job; `--resume NAME`, or the same submission again, resumes the run. Raises SettingsError."""
    job = find_job(name, storage)
    try:
        job.batch.stop(job.id)
    except BatchError as error:
        raise SettingsError(str(error)) from None
    return job
