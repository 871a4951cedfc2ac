"""Whether a run or search fits into a cluster, and what its workers get. Checked before a local cluster starts."""

from __future__ import annotations

from dataclasses import dataclass

from gan_core.settings import SettingsError
from infra.cluster import Cluster, expected
from pipelines.settings._experiments import SearchExperiment, TrainExperiment

_EPSILON = 1e-6
"""Ray counts resources in ten-thousandths, so three workers of 0.3333 GPUs share one."""


def check_capacity(settings: SearchExperiment | TrainExperiment, cluster: Cluster | None = None) -> None:
    """Refuses workers that the cluster can never hold. Raises SettingsError.

    Without `cluster`, checks against the local cluster that would be started, unless RAY_ADDRESS names another.
    """
    cluster = cluster or expected()
    if cluster is None:
        return
    _check_gpus(settings, cluster)
    _check_cpus(settings, cluster)
    if settings.metrics.asynchronous and cluster.cpus < settings.compute.workers * cpus_of(settings) + 1:
        raise SettingsError(
            f"metrics.async=true needs a CPU beside compute.workers={settings.compute.workers},"
            f" the cluster has {cluster.cpus}",
            nearest="metrics.async=false",
        )
    if isinstance(settings, SearchExperiment):
        concurrent_trials(settings, cluster)


def _check_gpus(settings: SearchExperiment | TrainExperiment, cluster: Cluster) -> None:
    workers, each = settings.compute.workers, _required_gpus(settings)
    fits = sum(_workers_on(gpus, each) for _, gpus in cluster.sizes) if each else workers
    if fits < workers:
        setting = "compute.device=cuda" if settings.compute.gpus is None else f"compute.gpus={each:g}"
        raise SettingsError(
            f"{setting} with compute.workers={workers} needs {workers * each:g} GPUs, the cluster has {cluster.gpus}",
            nearest=f"compute.workers={fits}" if cluster.gpus else "compute.device=cpu",
        )


def _check_cpus(settings: SearchExperiment | TrainExperiment, cluster: Cluster) -> None:
    workers, each = settings.compute.workers, cpus_of(settings)
    if _workers_in(cluster, each, 0) >= workers:
        return
    if settings.compute.cpus is None:
        raise SettingsError(
            f"compute.workers={workers} needs {workers} CPUs, the cluster has {cluster.cpus}",
            nearest=f"compute.workers={cluster.cpus}",
        )
    fewer = next((cpus for cpus in range(each, 0, -1) if _workers_in(cluster, cpus, 0) >= workers), None)
    nodes = "" if len(cluster.sizes) == 1 else f" on nodes of {', '.join(str(cpus) for cpus, _ in cluster.sizes)}"
    raise SettingsError(
        f"compute.cpus={each} with compute.workers={workers} needs {workers * each} CPUs, the cluster has"
        f" {cluster.cpus}{nodes}",
        nearest=f"compute.cpus={fewer}" if fewer else f"compute.workers={cluster.cpus} compute.cpus=null",
    )


def cpus_of(settings: SearchExperiment | TrainExperiment) -> int:
    """The CPUs that a worker needs at least."""
    return settings.compute.cpus or 1


def _required_gpus(settings: SearchExperiment | TrainExperiment) -> float:
    """The GPUs that a worker must have; 0 if it can run without."""
    gpus = settings.compute.gpus
    return float(settings.compute.device == "cuda") if gpus is None else gpus


def gpus_of(settings: SearchExperiment | TrainExperiment, cluster: Cluster) -> float:
    """The GPUs, or share of one, that each worker takes: `compute.gpus`, else 1 if there are as many as workers."""
    compute = settings.compute
    one_each = compute.gpus is None and compute.device == "auto" and cluster.gpus >= compute.workers
    return 1.0 if one_each else _required_gpus(settings)


def _workers_on(gpus: int, each: float) -> int:
    """How many workers a node's GPUs hold. A worker's share lies on one GPU, never on two."""
    return int(1 / each + _EPSILON) * gpus


def _workers_in(cluster: Cluster, cpus: int, gpus: float) -> int:
    """How many workers the cluster holds. A worker lies on one node, never on two."""
    return sum(
        min(node_cpus // cpus, _workers_on(node_gpus, gpus)) if gpus else node_cpus // cpus
        for node_cpus, node_gpus in cluster.sizes
    )


@dataclass(frozen=True)
class WorkerResources:
    """What one worker gets, and where an asynchronous evaluation runs."""

    gpus: float
    cpus_per_worker: int
    evaluate_on_gpu: bool = False
    nodes: int = 1
    """Of the cluster."""

    @property
    def use_gpu(self) -> bool:
        """Whether workers train on a GPU."""
        return self.gpus > 0


def worker_resources(settings: TrainExperiment, cluster: Cluster) -> WorkerResources:
    """`compute.cpus` for each worker, else an equal part of a local cluster's CPUs, else one."""
    workers, gpus = settings.compute.workers, gpus_of(settings, cluster)
    spare = cluster.cpus - settings.metrics.asynchronous
    cpus = settings.compute.cpus or (max(1, spare // workers) if cluster.local else 1)
    return WorkerResources(gpus, cpus, gpus > 0 and cluster.gpus > workers, len(cluster.sizes))


def trial_resources(experiment: SearchExperiment, cluster: Cluster) -> WorkerResources:
    """What each worker of a trial gets, so that as many trials as may run at once do."""
    concurrent, workers = concurrent_trials(experiment, cluster), experiment.compute.workers
    cpus = experiment.compute.cpus or (max(1, cluster.cpus // (concurrent * workers)) if cluster.local else 1)
    return WorkerResources(gpus_of(experiment, cluster), cpus, nodes=len(cluster.sizes))


def trial_slots(experiment: SearchExperiment, cluster: Cluster) -> int:
    """How many trials the cluster holds at once, each with all of its workers.

    A trial's own actor only waits for its workers and holds no CPU, so trials cannot block one another.
    """
    workers = _workers_in(cluster, cpus_of(experiment), gpus_of(experiment, cluster))
    return workers // experiment.compute.workers


def concurrent_trials(experiment: SearchExperiment, cluster: Cluster) -> int:
    """How many trials run at once. Raises SettingsError if the cluster cannot hold `search.max_concurrent`."""
    workers, limit = experiment.compute.workers, experiment.search.max_concurrent
    slots = trial_slots(experiment, cluster)
    if not slots:  # there are enough CPUs and enough GPUs, but not on the same nodes
        gpus = gpus_of(experiment, cluster)
        raise SettingsError(
            f"compute.cpus={cpus_of(experiment)} with compute.gpus={gpus:g} finds room on none of"
            f" the cluster's nodes for {workers} workers",
            nearest="compute.cpus=1",
        )
    concurrent = min(limit or slots, experiment.search.trials)
    if concurrent > slots:
        raise SettingsError(
            f"search.max_concurrent={limit} with compute.workers={workers} needs {concurrent * workers} workers,"
            f" the cluster has room for {slots * workers}",
            nearest=f"search.max_concurrent={slots}",
        )
    return concurrent
