"""What the machine does, by MLflow's names."""

import pytest

from infra import system_metrics
from infra.system_metrics import SmiMonitor, SystemMetrics, interval


@pytest.mark.parametrize(
    ("variable", "seconds"), [(None, 10), ("true", 10), ("1", 10), ("False", float("inf")), ("0", float("inf"))]
)
def test_mlflows_own_variable_turns_samples_off(monkeypatch, variable, seconds):
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    if variable:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", variable)
    assert interval() == seconds


def test_the_first_sample_comes_after_an_interval(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(system_metrics.time, "monotonic", lambda: clock[0])
    machine = SystemMetrics()
    clock[0] = 109.0
    assert machine.sample() == {}
    clock[0] = 110.0
    found = machine.sample()
    assert 0 < found["system/system_memory_usage_percentage"] < 100
    assert found["system/network_receive_megabytes"] >= 0
    assert machine.sample() == {}


def test_gpus_by_the_drivers_own_program(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, 1000, 4000, 87, 250.5'\necho '1, 0, 4000, 0, [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monitor = SmiMonitor()
    monitor.collect_metrics()
    assert monitor.aggregate_metrics() == {
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu_0_memory_usage_megabytes": 1048.6,
        "gpu_0_utilization_percentage": 87.0,
        "gpu_0_power_usage_watts": 250.5,
        "gpu_1_memory_usage_percentage": 0.0,
        "gpu_1_memory_usage_megabytes": 0.0,
        "gpu_1_utilization_percentage": 0.0,
    }


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\n", None])
def test_without_a_gpu_there_is_no_monitor_of_any(monkeypatch, tmp_path, program):
    if program is not None:
        (tmp_path / "nvidia-smi").write_text(program)
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="no GPU"):
        SmiMonitor()
