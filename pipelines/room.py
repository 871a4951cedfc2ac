"""Whether what is asked for fits into the cluster; told before anything is started where the cluster is our own."""

from __future__ import annotations

from gan_core.settings import SettingsError
from infra.cluster import Cluster, expected
from pipelines.settings import SearchExperiment, Where


def check_room(settings: Where, room: Cluster | None = None) -> None:
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
    if isinstance(settings, SearchExperiment):
        concurrent_trials(settings, room)


def uses_gpu(settings: Where, room: Cluster) -> bool:
    """Whether workers take a GPU each: asked for, or there for all of them."""
    return settings.compute.device == "cuda" or (
        settings.compute.device == "auto" and room.gpus >= settings.compute.workers
    )


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
