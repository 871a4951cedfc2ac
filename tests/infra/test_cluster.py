"""What a cluster is taken to have."""

import pytest

from infra.cluster import ClusterError, cluster, promised
from tests.servers import free_ports


@pytest.mark.parametrize(
    ("text", "nodes"),
    [("", ()), ("1x4x0", ((4, 0),)), ("3x16x4", ((16, 4), (16, 4), (16, 4)))],
)
def test_what_an_autoscaler_can_bring_is_read_from_the_environment(monkeypatch, text, nodes):
    monkeypatch.setenv("GANFLEET_NODES", text)
    assert promised() == nodes


@pytest.mark.parametrize("text", ["2", "2x4", "2x4x", "axbxc", "2x4x0x1", "-1x4x0"])
def test_what_is_no_size_of_a_cluster_is_told(monkeypatch, text):
    monkeypatch.setenv("GANFLEET_NODES", text)
    with pytest.raises(ClusterError, match=f"GANFLEET_NODES={text} is not NODESxCPUSxGPUS; nearest: "):
        promised()


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
