"""Checks of an S3 store, a tracking server and a Ray cluster. Each returns what it found, or raises an error that says
what to do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from infra.stores.protocol import DamagedError, Store, StoreError
from infra.versions import version_of

ANSWER_SECONDS = 5.0
"""Within which a tracking server must answer before anything starts."""

SECONDS = 60
"""Within which a Ray cluster must answer."""

PACKAGES = ("ganfleet", "torch", "ray", "mlflow", "numpy")
"""Packages whose versions must be equal on all nodes, because they unpickle each other's objects."""

PROBE = f"""
import json, os, platform, sys
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

def versions():
    from importlib import metadata
    found = {{"python": platform.python_version()}}
    for package in {PACKAGES!r}:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found

ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="error")
nodes = [node for node in ray.nodes() if node["Alive"]]
task = ray.remote(num_cpus=0)(versions)
asked = [task.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote() for node in nodes]
answers = ray.get(asked, timeout={SECONDS - 20})
found = [
    {{"node": node["NodeManagerAddress"], "resources": node["Resources"], "versions": versions}}
    for node, versions in zip(nodes, answers)
]
sys.stdout.write("\\n" + json.dumps({{"nodes": found, "driver": versions()}}) + "\\n")
"""
"""A program for a process of its own: Ray's output stays there, and so does a cluster that does not answer."""


class CheckFailedError(Exception):
    """What is wrong and what to do, in one line."""


def check_store(store: Store) -> str:
    """Writes, reads and deletes a small key. Raises the store's error with the step that failed."""
    key, content, doing = f".ganfleet-doctor-{uuid.uuid4().hex}", b"ganfleet", "write"
    try:
        store.write(key, content)
        doing = "read"
        found = store.read(key)
        doing = "delete"
        store.delete(key)
    except StoreError as error:
        raise type(error)(f"could not {doing}: {error}") from None
    if found != content:
        raise DamagedError(f"{store.url} gave back other bytes than were put")
    return f"{store.url}: wrote, read and deleted a key"


def check_server(uri: str) -> str:
    """Checks that the MLflow server at http(s)://... has the major version of the client here."""
    ours = version_of("mlflow")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/version", timeout=30) as reply:
            theirs = reply.read().decode(errors="replace").strip()
    except urllib.error.HTTPError as error:
        known = "; give the server --allowed-hosts with this name" if error.code == 403 else "; is it MLflow?"
        raise CheckFailedError(f"{uri} answers {error.code}{known}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CheckFailedError(f"{uri} does not answer ({reason}); start it, or name another tracking.uri") from None
    if theirs.partition(".")[0] != ours.partition(".")[0]:
        raise CheckFailedError(f"{uri} is MLflow {theirs[:40]}, here is {ours}; install the same major version on both")
    return f"{uri}: MLflow {theirs} (here {ours})"


def cluster_nodes() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Each node's address, resources and versions in the cluster that RAY_ADDRESS names, and the versions here."""
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailedError(
            f"the Ray cluster did not answer in {SECONDS} s; check RAY_ADDRESS, the network, RAY_AUTH_TOKEN"
        ) from None
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no word")
        token = "auth" in done.stderr.lower() and "token" in done.stderr.lower()
        advice = "set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN" if token else "check RAY_ADDRESS"
        raise CheckFailedError(f"the Ray cluster cannot be joined: {last.strip()[:200]}; {advice}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["nodes"], found["driver"]


def check_connects(uri: str, waiting: Callable[[float], None]) -> None:
    """Raises OSError if nothing listens at an address of HTTP, or answers there within seconds. `waiting` is called
    with the seconds that are left if it takes longer than one.

    A server without encryption must answer; of others only the port is tried. Behind a proxy nothing is.
    """
    place = urllib.parse.urlsplit(uri)
    host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
    if urllib.request.getproxies().get(place.scheme) and not urllib.request.proxy_bypass(host):
        return
    for seconds, last in ((1.0, False), (ANSWER_SECONDS, True)):
        try:
            with socket.create_connection((host, port), timeout=seconds) as connection:
                if place.scheme == "http":
                    connection.sendall(f"HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                    connection.recv(1)
            return
        except TimeoutError:
            if last:
                raise TimeoutError(f"no answer within {seconds:g} s") from None
            waiting(ANSWER_SECONDS)
