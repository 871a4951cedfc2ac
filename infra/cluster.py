"""The Ray cluster: the one that RAY_ADDRESS names, otherwise one that this process starts on this machine."""

from __future__ import annotations

import os
import platform
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

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
_RIGHT = "the address that `ray start --head` printed"
_TOKEN = "RAY_AUTH_MODE=token with the RAY_AUTH_TOKEN of that cluster"
_UNSET = "RAY_ADDRESS unset, for a cluster of one's own"


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
    """The local cluster that would be started; None if this process has joined one, or RAY_ADDRESS names another."""
    if joined() or os.environ.get("RAY_ADDRESS"):
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
    address = os.environ.get("RAY_ADDRESS") or "local"
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    check_address()
    there = ray.is_initialized()
    try:
        if not there:
            _join(address)
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        sizes = autoscaler_nodes() or tuple((int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in found)
        yield Cluster(sum(cpus for cpus, _ in sizes), sum(gpus for _, gpus in sizes), address == "local", sizes)
    finally:
        if not there:
            ray.shutdown()


def joined() -> bool:
    """Whether this process has joined a cluster already. Does not import Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def free_capacity() -> str:
    """How much of the joined cluster nobody uses: `free: 1 of 2 CPUs`."""
    import ray

    there, free = ray.cluster_resources(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if there.get(kind)]
    return "free: " + ", ".join(f"{free.get(kind, 0):g} of {there[kind]:g} {kind}s" for kind in kinds)


def _join(address: str) -> None:
    import ray

    from infra.ray_private import without_ray_signals

    try:
        # Ray's C++ installs a handler of TERM too.
        with keep_signal_handler(signal.SIGTERM), without_ray_signals(), _hangup_blocked():
            ray.init(
                address=address,
                num_cpus=_usable_cpus() if address == "local" else None,
                include_dashboard=True if address == "local" else None,
                log_to_driver=True,
                runtime_env={"env_vars": SETTINGS} if address != "local" else None,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address == "local":
            raise
        raise _why(error, address) from error


@contextmanager
def _hangup_blocked() -> Iterator[None]:
    """Processes that start inside live on when the terminal is closed, until this process has ended its run."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def keep_signal_handler(number: signal.Signals) -> Iterator[None]:
    """Restores a signal's handler afterwards: Ray installs its own and leaves them."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def check_address() -> None:
    """Raises ClusterError unless RAY_ADDRESS is unset, or names a cluster that answers and has Ray's and Python's
    versions of this process. Ray itself would try for minutes, and print pages. It does not count once a cluster is
    joined."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local") or joined():
        return
    found = _of_this_machine() if address == "auto" else address
    _check_answers(address, found)
    if not found.startswith("ray://"):
        _check_versions(address, found)


def _refused(address: str, why: str, nearest: str = _RIGHT) -> ClusterError:
    return ClusterError(f"RAY_ADDRESS={address}: {why}; nearest: {nearest}")


def _check_answers(address: str, found: str) -> None:
    """Raises ClusterError unless Ray's own protocol, HTTP/2, is spoken at `found`."""
    host, _, port = found.removeprefix("ray://").rpartition(":")
    if not re.fullmatch(r"[^\s/:@\[\]]+|\[[0-9a-fA-F:.]+\]", host) or not re.fullmatch(r"\d+", port):
        raise _refused(address, "this is no address", f"HOST:PORT, {_RIGHT}, or auto")
    if not 0 < int(port) < 65536:
        raise _refused(address, f"{port} is out of range, 1 to 65535")
    if found.startswith("ray://") and find_spec("grpc") is None:
        raise _refused(address, "Ray's client is not installed", "pip install 'ray[client]'")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS) as connection:
            speaks = bool(os.environ.get("RAY_USE_TLS")) or _speaks_http2(connection)
    except OSError as error:
        raise _refused(address, f"nobody answers there ({error.strerror or error})") from None
    if not speaks:
        raise _refused(address, "what answers is no head of a Ray cluster")


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether the other side begins as RFC 9113 says: its first frame, of 9 bytes or more, has the type SETTINGS."""
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    head = b""
    while len(head) < 9 and (more := connection.recv(9 - len(head))):
        head += more
    return len(head) == 9 and head[3] == 4


def _of_this_machine() -> str:
    """The address that `auto` stands for. Raises ClusterError."""
    from infra.ray_private import find_bootstrap_address, find_gcs_addresses

    started, running = find_bootstrap_address(None), sorted(find_gcs_addresses())
    if started is not None and (started in running or not running):
        return started
    if len(running) > 1:
        raise _refused("auto", f"{len(running)} clusters run on this machine", f"RAY_ADDRESS={running[0]}")
    if not running:
        raise _refused("auto", "no cluster runs on this machine", f"`ray start --head`, or {_UNSET}")
    return running[0]


def _check_versions(address: str, found: str) -> None:
    from ray.exceptions import AuthenticationError, RayError

    from infra.ray_private import GcsClient, get_cluster_metadata, maybe_enable_token_auth_if_token_available

    if address == "auto":
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        with _no_stderr():
            about = get_cluster_metadata(GcsClient(address=found))
    except AuthenticationError:
        raise _refused(address, _unauthenticated(), _TOKEN) from None
    except RayError as error:
        raise _refused(address, f"no Ray cluster answers ({' '.join(str(error).split())[:200]})") from None
    if address == "auto" and about and about.get("ray_init_cluster"):
        raise _refused("auto", f"the cluster at {found} is another program's and ends with it", _UNSET)
    for package, name, here in (
        ("Ray", "ray_version", version("ray")),
        ("Python", "python_version", platform.python_version()),
    ):
        there = about.get(name, here) if about else here
        if there.split(".")[:2] != here.split(".")[:2] or (package == "Ray" and there != here):
            raise _refused(address, f"the cluster has {package} {there}, here is {here}", "the same on all nodes")


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's C++ writes warnings to the descriptor itself."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _why(error: Exception, address: str) -> ClusterError:
    if "AuthenticationError" in str(error.__cause__):
        return _refused(address, _unauthenticated(), _TOKEN)
    return _refused(address, " ".join(str(error).split())[:200])


def _unauthenticated() -> str:
    mode = os.environ.get("RAY_AUTH_MODE", "disabled")
    known = "refuses the token" if mode == "token" else f"wants a token, RAY_AUTH_MODE is {mode}"
    return f"the Ray cluster {known}"


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
