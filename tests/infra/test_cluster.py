"""What a cluster is taken to have."""

import pytest

from infra.cluster import promised


@pytest.mark.parametrize(
    ("text", "nodes"),
    [("", ()), ("1x4x0", ((4, 0),)), ("3x16x4", ((16, 4), (16, 4), (16, 4)))],
)
def test_what_an_autoscaler_can_bring_is_read_from_the_environment(monkeypatch, text, nodes):
    monkeypatch.setenv("GANFLEET_NODES", text)
    assert promised() == nodes
