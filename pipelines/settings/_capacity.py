"""Whether what is asked for fits into the cluster; told before anything is started where the cluster is our own."""

from __future__ import annotations

from dataclasses import dataclass

from gan_core.settings import SettingsError
from infra.cluster import Cluster, expected
from pipelines.settings._experiments import SearchExperiment, TrainExperiment

_EPSILON = 1e-6
"""Ray counts resources in ten-thousandths: three thirds of a GPU, written as 0.3333, are one."""


def check_capacity(settings: SearchExperiment | TrainExperiment, room: Cluster | None = None) -> None:
    """Refuses workers that the cluster can never hold. Raises SettingsError.

    Without `room`: against what a cluster on this machine will have, if that is the one to be used.
    """
    room = room or expected()
    if room is None:
        return
    _check_gpus(settings, room)
    _check_cpus(settings, room)
    if settings.metrics.asynchronous and room.cpus < settings.compute.workers * cpus_of(settings) + 1:
        raise SettingsError(
            f"metrics.async=true needs a CPU beside compute.workers={settings.compute.workers},"
            f" the cluster has {room.cpus}; nearest: metrics.async=false"
        )
    if isinstance(settings, SearchExperiment):
        concurrent_trials(settings, room)


def _check_gpus(settings: SearchExperiment | TrainExperiment, room: Cluster) -> None:
    workers, each = settings.compute.workers, _gpus_asked(settings)
    fits = sum(_fitting(gpus, each) for _, gpus in room.sizes) if each else workers
    if fits < workers:
        fewer = f"compute.workers={fits}" if room.gpus else "compute.device=cpu"
        asked = "compute.device=cuda" if settings.compute.gpus is None else f"compute.gpus={each:g}"
        raise SettingsError(
            f"{asked} with compute.workers={workers} needs {workers * each:g} GPUs,"
            f" the cluster has {room.gpus}; nearest: {fewer}"
        )


def _check_cpus(settings: SearchExperiment | TrainExperiment, room: Cluster) -> None:
    workers, each = settings.compute.workers, cpus_of(settings)
    if _places(room, each, 0) >= workers:
        return
    if settings.compute.cpus is None:
        raise SettingsError(
            f"compute.workers={workers} needs {workers} CPUs, the cluster has {room.cpus};"
            f" nearest: compute.workers={room.cpus}"
        )
    fewer = next((cpus for cpus in range(each, 0, -1) if _places(room, cpus, 0) >= workers), None)
    nodes = "" if len(room.sizes) == 1 else f" on nodes of {', '.join(str(cpus) for cpus, _ in room.sizes)}"
    raise SettingsError(
        f"compute.cpus={each} with compute.workers={workers} needs {workers * each} CPUs, the cluster has"
        f" {room.cpus}{nodes}; nearest: "
        + (f"compute.cpus={fewer}" if fewer else f"compute.workers={room.cpus} compute.cpus=null")
    )


def cpus_of(settings: SearchExperiment | TrainExperiment) -> int:
    """CPUs that a worker needs at least."""
    return settings.compute.cpus or 1


def _gpus_asked(settings: SearchExperiment | TrainExperiment) -> float:
    """The GPUs that a worker must have, 0 if it may do without."""
    asked = settings.compute.gpus
    return float(settings.compute.device == "cuda") if asked is None else asked


def gpus_of(settings: SearchExperiment | TrainExperiment, room: Cluster) -> float:
    """The GPU, or the share of one, that each worker takes: as asked for, else one if there are as many as workers."""
    compute = settings.compute
    there = compute.gpus is None and compute.device == "auto" and room.gpus >= compute.workers
    return 1.0 if there else _gpus_asked(settings)


def _fitting(gpus: int, each: float) -> int:
    """How many workers find a GPU or a share: shares of one GPU only, for a worker's share is never of two."""
    return int(1 / each + _EPSILON) * gpus


@dataclass(frozen=True)
class WorkerResources:
    """What one worker gets, and the task that evaluates beside training."""

    gpus: float
    cpus_per_worker: int
    evaluate_on_gpu: bool = False
    nodes: int = 1
    """Of the cluster."""

    @property
    def use_gpu(self) -> bool:
        """Whether workers play on a GPU."""
        return self.gpus > 0


def worker_resources(settings: TrainExperiment, room: Cluster) -> WorkerResources:
    """As asked for, else all CPUs of a cluster of our own, one a worker elsewhere."""
    workers, gpus = settings.compute.workers, gpus_of(settings, room)
    spare = room.cpus - settings.metrics.asynchronous
    cpus = settings.compute.cpus or (max(1, spare // workers) if room.local else 1)
    return WorkerResources(gpus, cpus, gpus > 0 and room.gpus > workers, len(room.sizes))


def trial_resources(experiment: SearchExperiment, room: Cluster) -> WorkerResources:
    """What each worker of a trial gets, so that as many trials as may run at once do."""
    concurrent, workers = concurrent_trials(experiment, room), experiment.compute.workers
    cpus = experiment.compute.cpus or (max(1, room.cpus // (concurrent * workers)) if room.local else 1)
    return WorkerResources(gpus_of(experiment, room), cpus, nodes=len(room.sizes))


def trial_slots(experiment: SearchExperiment, room: Cluster) -> int:
    """How many trials the cluster holds at once. Each is counted with all of its workers, and a trial's own actor,
    which waits for them, holds no CPU: so no trial's workers wait for another's that wait for theirs."""
    return _places(room, cpus_of(experiment), gpus_of(experiment, room)) // experiment.compute.workers


def _places(room: Cluster, cpus: int, gpus: float) -> int:
    """How many workers find room, each on one node."""
    return sum(
        min(node_cpus // cpus, _fitting(node_gpus, gpus)) if gpus else node_cpus // cpus
        for node_cpus, node_gpus in room.sizes
    )


def concurrent_trials(experiment: SearchExperiment, room: Cluster) -> int:
    """How many trials run at once. Raises SettingsError if more are asked for than the cluster can hold."""
    workers, asked = experiment.compute.workers, experiment.search.max_concurrent
    slots = trial_slots(experiment, room)
    if not slots:  # each of CPUs and GPUs is enough, but not on the same nodes
        raise SettingsError(
            f"compute.cpus={cpus_of(experiment)} with compute.gpus={gpus_of(experiment, room):g} finds room on none of"
            f" the cluster's nodes for {workers} workers; nearest: compute.cpus=1"
        )
    concurrent = min(asked or slots, experiment.search.trials)
    if concurrent > slots:
        raise SettingsError(
            f"search.max_concurrent={asked} with compute.workers={workers} needs {concurrent * workers} workers,"
            f" the cluster has room for {slots * workers}; nearest: search.max_concurrent={slots}"
        )
    return concurrent
