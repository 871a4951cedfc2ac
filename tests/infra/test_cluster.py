"""The size of a cluster, and how joining one fails."""

import subprocess
import sys

import pytest

from infra.cluster import ClusterError, autoscaler_nodes, cluster
from tests.servers import free_ports


@pytest.mark.parametrize(
    ("text", "nodes"),
    [("", ()), ("1x4x0", ((4, 0),)), ("3x16x4", ((16, 4), (16, 4), (16, 4)))],
)
def test_what_an_autoscaler_can_bring_is_read_from_the_environment(monkeypatch, text, nodes):
    monkeypatch.setenv("GANFLEET_NODES", text)
    assert autoscaler_nodes() == nodes


@pytest.mark.parametrize("text", ["2", "2x4", "2x4x", "axbxc", "2x4x0x1", "-1x4x0"])
def test_what_is_no_size_of_a_cluster_is_told(monkeypatch, text):
    monkeypatch.setenv("GANFLEET_NODES", text)
    with pytest.raises(ClusterError, match=f"GANFLEET_NODES={text} is not NODESxCPUSxGPUS; nearest: "):
        autoscaler_nodes()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_is_is_told_at_once(monkeypatch, scheme):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray would ask for minutes"))
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", f"{scheme}127.0.0.1:{port}")
    with pytest.raises(ClusterError) as refused, cluster():
        pass
    assert str(refused.value).startswith(f"RAY_ADDRESS={scheme}127.0.0.1:{port}: nobody answers there (")
    assert "; nearest: " in str(refused.value)


TOLD_WHILE_IT_STARTS = """
import os, signal
import ray._private.node as node
from infra.cluster import cluster

def heard(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, heard)
node.Node.start_head_processes = lambda self: os.kill(os.getpid(), signal.SIGTERM)
try:
    with cluster():
        print("started")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGTERM) is heard)
"""


def test_term_while_ray_starts_comes_to_who_listens(monkeypatch):
    """Ray's own handler would end the process with the signal's number as its exit code."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", TOLD_WHILE_IT_STARTS], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.returncode) == ("interrupted True\n", 0), done.stderr
