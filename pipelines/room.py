"""Whether what is asked for fits into the cluster; told before anything is started where the cluster is our own."""

from __future__ import annotations

from dataclasses import dataclass

from gan_core.settings import SettingsError
from infra.cluster import Cluster, expected
from pipelines.settings import SearchExperiment, TrainExperiment


def check_room(settings: SearchExperiment | TrainExperiment, room: Cluster | None = None) -> None:
    """Refuses workers that the cluster can never hold. Raises SettingsError.

    Without `room`: against what a cluster on this machine will have, if that is the one to be used.
    """
    room = room or expected()
    if room is None:
        return
    workers = settings.compute.workers
    if settings.compute.device == "cuda" and room.gpus < workers:
        fewer = f"compute.workers={room.gpus}" if room.gpus else "compute.device=cpu"
        raise SettingsError(
            f"compute.device=cuda with compute.workers={workers} needs {workers} GPUs,"
            f" the cluster has {room.gpus}; nearest: {fewer}"
        )
    if room.cpus < workers:
        raise SettingsError(
            f"compute.workers={workers} needs {workers} CPUs, the cluster has {room.cpus};"
            f" nearest: compute.workers={room.cpus}"
        )
    if settings.metrics.beside and room.cpus < workers + 1:
        raise SettingsError(
            f"metrics.async=true needs a CPU beside compute.workers={workers}, the cluster has {room.cpus};"
            " nearest: metrics.async=false"
        )
    if isinstance(settings, SearchExperiment):
        concurrent_trials(settings, room)


def uses_gpu(settings: SearchExperiment | TrainExperiment, room: Cluster) -> bool:
    """Whether workers take a GPU each: asked for, or there for all of them."""
    return settings.compute.device == "cuda" or (
        settings.compute.device == "auto" and room.gpus >= settings.compute.workers
    )


@dataclass(frozen=True)
class Shares:
    """What one worker gets, and the task that evaluates beside training."""

    use_gpu: bool
    cpus_per_worker: int
    evaluate_on_gpu: bool = False


def shares(settings: TrainExperiment, room: Cluster) -> Shares:
    """All CPUs of a cluster of our own, one a worker elsewhere."""
    workers, gpu = settings.compute.workers, uses_gpu(settings, room)
    spare = room.cpus - settings.metrics.beside
    return Shares(gpu, max(1, spare // workers) if room.local else 1, gpu and room.gpus > workers)


def concurrent_trials(experiment: SearchExperiment, room: Cluster) -> int:
    """How many trials run at once. Raises SettingsError if more are asked for than the cluster can hold."""
    workers, asked = experiment.compute.workers, experiment.search.max_concurrent
    slots = (min(room.cpus, room.gpus) if uses_gpu(experiment, room) else room.cpus) // workers
    concurrent = min(asked or slots, experiment.search.trials)
    if concurrent > slots:
        raise SettingsError(
            f"search.max_concurrent={asked} with compute.workers={workers} needs {concurrent * workers} workers,"
            f" the cluster has room for {slots * workers}; nearest: search.max_concurrent={slots}"
        )
    return concurrent
