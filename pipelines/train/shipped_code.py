"""The user's modules on all nodes: those that `compute.ship` brings there, and a check that nodes have the others."""

from __future__ import annotations

import importlib.util

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from gan_core.settings import SettingsError
from infra.cluster import Cluster
from pipelines.code import Code, folder_of, in_ray, modules_in, own_modules
from pipelines.runs import RunFolder
from pipelines.settings import SearchExperiment, TrainExperiment

_ANSWER_SECONDS = 60.0


def shipped_code(experiment: TrainExperiment | SearchExperiment, folder: RunFolder, cluster: Cluster) -> Code | None:
    """The user's modules for the processes of a cluster: those in the run's folder, and on this machine those that this
    process has by its own path of imports.

    Raises SettingsError if the experiment needs another module, and a node of a joined cluster does not have it.
    """
    archive = folder.code.read_bytes() if experiment.compute.ship and folder.code.is_file() else None
    needed = own_modules(experiment) - (set() if archive is None else modules_in(archive))
    if cluster.local:
        return in_ray(archive, sorted({place for name in needed if (place := folder_of(name)) is not None}))
    _check_nodes(sorted(needed))
    return in_ray(archive)


def _check_nodes(modules: list[str]) -> None:
    """Raises SettingsError for a module that a node of the joined cluster does not have."""
    if not modules:
        return
    task = ray.remote(_absent)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[task.options(num_cpus=0, scheduling_strategy=there).remote(modules)] = node["NodeManagerAddress"]
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
    for answer in answered:
        try:
            absent = ray.get(answer)
        except ray.exceptions.RayError:  # the node is lost, which is no fault of the settings
            continue
        if absent:
            raise SettingsError(
                f"the node {asked[answer]} of the cluster has no module '{absent[0]}'", nearest=_nearest(absent[0])
            )


def _absent(modules: list[str]) -> list[str]:
    """Those that this process cannot import."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def _nearest(module: str) -> str:
    folder = folder_of(module)
    anywhere = "install it on every node"
    return anywhere if folder is None else f"compute.ship={folder}, or {anywhere}"
