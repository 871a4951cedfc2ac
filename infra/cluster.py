"""The Ray cluster: the one that RAY_ADDRESS names, otherwise one that this process starts on this machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
"""What Ray reads from the driver's environment. Values that the user has set stay.

TUNE_GLOBAL_CHECKPOINT_S turns Tune's own snapshots off: a search has its journal, and their cost grows with the trials.
"""


ANSWER_SECONDS = 10.0
"""Within which the cluster's address must answer."""


@dataclass(frozen=True)
class Cluster:
    """The CPUs and GPUs of a cluster."""

    cpus: int
    gpus: int
    local: bool
    nodes: tuple[tuple[int, int], ...] = ()
    """CPUs and GPUs of each node, because a worker must fit on one node. Empty if the nodes were not looked at."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """CPUs and GPUs of each node; of a single node with all of them if the nodes were not looked at."""
        return self.nodes or ((self.cpus, self.gpus),)


def expected() -> Cluster | None:
    """The local cluster that would be started; None if RAY_ADDRESS names another one."""
    if os.environ.get("RAY_ADDRESS"):
        return None
    return Cluster(_usable_cpus(), _local_gpus(), local=True)


class ClusterError(Exception):
    """The cluster cannot be joined: why, and what to do, in one line."""


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Joins the cluster that RAY_ADDRESS names, or starts one on loopback. Disconnects or stops it afterwards.

    If this process has joined a cluster already, that one is used and left as it is. A started cluster has the
    dashboard: without it Ray Train never frees a stopped trial's placement group. Raises ClusterError.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    address = os.environ.get("RAY_ADDRESS", "local")
    joined = ray.is_initialized()
    if not joined:
        _check_answers(address)
    try:
        if not joined:
            _join(address)
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        sizes = autoscaler_nodes() or tuple((int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in found)
        yield Cluster(sum(cpus for cpus, _ in sizes), sum(gpus for _, gpus in sizes), address == "local", sizes)
    finally:
        if not joined:
            ray.shutdown()


def _join(address: str) -> None:
    import ray

    from infra.ray_private import without_ray_signals

    try:
        with without_ray_signals():
            ray.init(
                address=address,
                num_cpus=_usable_cpus() if address == "local" else None,
                include_dashboard=True if address == "local" else None,
                log_to_driver=True,
                runtime_env={"env_vars": SETTINGS} if address != "local" else None,
            )
    except ConnectionError as error:
        raise ClusterError(f"RAY_ADDRESS={address}: {_why(error)}") from error


@contextmanager
def keep_signal_handler(number: signal.Signals) -> Iterator[None]:
    """Restores a signal's handler afterwards: Ray installs its own and leaves them."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def _check_answers(address: str) -> None:
    """Raises ClusterError if nobody answers at the address. Ray itself would try for minutes, silently."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # as `auto`: Ray finds the address
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: nobody answers there ({error.strerror or error}); nearest: the address that"
            " `ray start --head` printed"
        ) from None


def _why(error: ConnectionError) -> str:
    if "AuthenticationError" in str(error.__cause__):
        mode = os.environ.get("RAY_AUTH_MODE", "disabled")
        known = "refuses the token" if mode == "token" else f"wants a token, RAY_AUTH_MODE is {mode}"
        return f"the Ray cluster {known}; nearest: RAY_AUTH_MODE=token with the RAY_AUTH_TOKEN of that cluster"
    return f"{' '.join(str(error).split())[:200]}; nearest: the address that `ray start --head` printed"


def autoscaler_nodes() -> tuple[tuple[int, int], ...]:
    """CPUs and GPUs of each node of an autoscaled cluster at its largest; empty without GANFLEET_NODES.

    GANFLEET_NODES=NODESxCPUSxGPUS is needed because such a cluster shows only the nodes that it has now. Raises
    ClusterError.
    """
    text = os.environ.get("GANFLEET_NODES", "")
    if not text:
        return ()
    if not re.fullmatch(r"\d+x\d+x\d+", text):
        raise ClusterError(f"GANFLEET_NODES={text} is not NODESxCPUSxGPUS; nearest: GANFLEET_NODES=1x4x0")
    nodes, cpus, gpus = (int(number) for number in text.split("x"))
    return ((cpus, gpus),) * nodes


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0))


def _local_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len([name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()])
