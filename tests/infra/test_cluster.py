"""The size of a cluster, and how joining one fails."""

import socket
import subprocess
import sys
import threading

import pytest
import ray

from infra.cluster import ClusterError, autoscaler_nodes, check_address, cluster
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


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("head", "this is no address; nearest: HOST:PORT, "),
        ("head:", "this is no address"),
        (":6379", "this is no address"),
        ("head:6379:1", "this is no address"),
        ("me@head:6379", "this is no address"),
        ("http://127.0.0.1:8265", "this is no address"),
        ("grpc://head:6379", "this is no address"),
        ("head:0", "0 is out of range, 1 to 65535"),
        ("127.0.0.1:65536", "65536 is out of range, 1 to 65535"),
        ("ray://127.0.0.1:100001", "100001 is out of range, 1 to 65535"),
        ("no-such-host.invalid:6379", "nobody answers there ("),
    ],
)
def test_what_is_no_address_is_told(monkeypatch, address, why):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError) as refused:
        check_address()
    assert str(refused.value).startswith(f"RAY_ADDRESS={address}: {why}")
    assert "; nearest: " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["", "local"])
def test_a_cluster_of_ones_own_is_not_looked_for(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    check_address()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"+PONG\r\n"])
def test_another_kind_of_server_is_told(monkeypatch, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ClusterError, match=f"RAY_ADDRESS={address}: what answers is no head of a Ray cluster"):
            check_address()


@pytest.mark.parametrize(
    ("started", "running", "why"),
    [
        (None, set(), "no cluster runs on this machine; nearest: "),
        (None, {"10.0.0.1:5", "10.0.0.1:4"}, "2 clusters run on this machine; nearest: RAY_ADDRESS=10.0.0.1:4"),
    ],
)
def test_auto_is_one_cluster_of_this_machine(monkeypatch, started, running, why):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("infra.ray_private.find_bootstrap_address", lambda _: started)
    monkeypatch.setattr("infra.ray_private.find_gcs_addresses", lambda: running)
    with pytest.raises(ClusterError, match=f"^RAY_ADDRESS=auto: {why}"):
        check_address()


def test_auto_is_no_cluster_that_was_ended(monkeypatch):
    """`ray start` leaves the address in a file."""
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("infra.ray_private.find_bootstrap_address", lambda _: f"127.0.0.1:{port}")
    monkeypatch.setattr("infra.ray_private.find_gcs_addresses", set)
    with pytest.raises(ClusterError, match=r"^RAY_ADDRESS=auto: nobody answers there \("):
        check_address()


def test_a_cluster_is_joined_if_its_versions_are_ours(ray_cluster, monkeypatch):
    ours = f"{ray.__version__}"
    address = ray.get_runtime_context().gcs_address
    monkeypatch.setattr("infra.cluster.joined", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    check_address()
    monkeypatch.setattr("infra.cluster.version", lambda _: "2.9.0")
    with pytest.raises(ClusterError, match=f"the cluster has Ray {ours}, here is 2.9.0; nearest: "):
        check_address()
    monkeypatch.undo()
    monkeypatch.setattr("infra.cluster.joined", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("platform.python_version", lambda: "3.99.1")
    with pytest.raises(ClusterError, match="the cluster has Python 3.*, here is 3.99.1; nearest: "):
        check_address()


def test_auto_joins_no_cluster_of_another_program(ray_cluster, monkeypatch):
    address = ray.get_runtime_context().gcs_address
    monkeypatch.setattr("infra.cluster.joined", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("infra.ray_private.find_bootstrap_address", lambda _: None)
    monkeypatch.setattr("infra.ray_private.find_gcs_addresses", lambda: {address})
    with pytest.raises(ClusterError, match=f"the cluster at {address} is another program's and ends with it"):
        check_address()


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
