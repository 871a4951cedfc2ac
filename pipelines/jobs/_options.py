"""The places that a run can be submitted to, and the options of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gan_core.settings import Settings, SettingsError, paths, similar, unknown
from infra.cluster import Cluster
from infra.jobs.kuberay import Pods
from infra.jobs.slurm import Allocation

Place = Literal["slurm", "kuberay", "ray", "here"]
PLACES: tuple[Place, ...] = get_args(Place)
_ANY_CPUS = 4096
"""For whole nodes, whose size only Slurm knows: as many CPUs as any run may want."""

Count = Annotated[int, Field(ge=1, le=4096)]
Gpus = Annotated[int, Field(ge=0, le=64)]


class SlurmPlace(Settings):
    """What a job asks Slurm for; where an option is null, Slurm uses its own default."""

    nodes: Count = 1
    """Nodes of the job."""
    cpus: Count | None = None
    """CPUs of each node; null: whole nodes."""
    gpus: Gpus = 0
    """GPUs of each node."""
    memory: str | None = None
    """Memory of each node, e.g. 16G."""
    time: str | None = None
    """The time limit, e.g. 1:30:00, or 2-12:00:00 for two and a half days."""
    partition: str | None = None
    """The partition to run in."""
    account: str | None = None
    """The account that the job is charged to."""
    qos: str | None = None
    """The quality of service."""

    @field_validator("memory", "time", "partition", "account", "qos")
    @classmethod
    def _one_word(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:,+-]*", text):
            key = f"slurm.{info.field_name}"
            raise SettingsError(f"{key}='{text}' is not one word, as sbatch takes it", nearest=f"{key}=null")
        return text

    def allocation(self) -> Allocation:
        """These options, as the batch script takes them."""
        return Allocation(**self.model_dump())


class KuberayPlace(Settings):
    """The pods of a RayJob."""

    image: str = "ganfleet:latest"
    """The container image, which the nodes must be able to fetch."""
    workers: Count = 1
    """Pods at the start; the autoscaler can add more, up to `max_workers`."""
    min_workers: Annotated[int, Field(ge=0, le=4096)] | None = None
    """The autoscaler's lower bound; null: as many as `workers`."""
    max_workers: Count | None = None
    """The autoscaler's upper bound; null: as many as `workers`."""
    cpus: Count = 4
    """CPUs of each worker."""
    gpus: Gpus = 0
    """GPUs of each worker."""
    memory: str = "16Gi"
    """Memory of each worker."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """How often a failed job is started again, with a new cluster."""
    secret: str | None = None
    """The Kubernetes Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL."""
    claim: str | None = None
    """The PersistentVolumeClaim mounted at storage.path."""
    namespace: str = "default"
    """The Kubernetes namespace of the RayJob."""

    @field_validator("memory")
    @classmethod
    def _quantity(cls, memory: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?", memory):
            digits = re.sub(r"\D", "", memory) or "16"
            raise SettingsError(f"kuberay.memory='{memory}' is no quantity", nearest=f"kuberay.memory={digits}Gi")
        return memory

    @field_validator("secret", "claim", "namespace")
    @classmethod
    def _a_name(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
            key, right = f"kuberay.{info.field_name}", re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "ganfleet"
            raise SettingsError(f"{key}='{name}' is no name that Kubernetes takes", nearest=f"{key}={right}")
        return name

    @model_validator(mode="after")
    def _in_order(self) -> KuberayPlace:
        low, high = self.bounds
        if not low <= self.workers <= high:
            right = f"kuberay.max_workers={self.workers}" if self.workers > high else f"kuberay.workers={low}"
            raise SettingsError(
                f"kuberay.workers={self.workers} is outside of its bounds, {low} to {high}", nearest=right
            )
        return self

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest number of workers."""
        low = self.workers if self.min_workers is None else self.min_workers
        return low, self.workers if self.max_workers is None else self.max_workers

    def pods(self) -> Pods:
        """These options, as the manifest takes them."""
        low, high = self.bounds
        bounds = {"min_workers": low, "max_workers": high}
        return Pods(**{**self.model_dump(exclude={"namespace"}), **bounds})


class PlaceOptions(Settings):
    """The options of all places. They are no part of the experiment."""

    slurm: SlurmPlace = SlurmPlace()
    kuberay: KuberayPlace = KuberayPlace()

    def capacity(self, place: Place) -> Cluster | None:
        """The cluster that the run will have there; None if it is unknown."""
        if place == "slurm":
            sizes = ((self.slurm.cpus or _ANY_CPUS, self.slurm.gpus),) * self.slurm.nodes
        elif place == "kuberay":
            sizes = ((self.kuberay.cpus, self.kuberay.gpus),) * self.kuberay.bounds[1]
        else:
            return None
        return Cluster(sum(cpus for cpus, _ in sizes), sum(gpus for _, gpus in sizes), False, sizes)


def checked_place(to: str | None) -> Place:
    """The place of that name. Raises SettingsError."""
    if to is None:
        raise SettingsError("submit needs a place", nearest=f"--to slurm (known: {', '.join(PLACES)})")
    for place in PLACES:
        if to == place:
            return place
    raise SettingsError(unknown("--to", to, PLACES))


def split_place_options(place: Place, assignments: Sequence[str]) -> tuple[PlaceOptions, list[str]]:
    """Separates the options of the place from the experiment's settings. Raises SettingsError for options of another
    place."""
    sections = tuple(PlaceOptions.model_fields)
    own = [word for word in assignments if word.partition(".")[0] in sections]
    known = [path for path in paths(PlaceOptions) if path.partition(".")[0] == place]
    for word in own:
        if word.partition(".")[0] != place:
            right = similar(word.partition("=")[0], known) or "leave it out"
            raise SettingsError(f"{word} has no meaning with --to {place}", nearest=right)
    return PlaceOptions().override(*own), [word for word in assignments if word not in own]
