"""How busy the machine is, by MLflow's names."""

from types import SimpleNamespace

import pynvml
import pytest
from mlflow.system_metrics.metrics import gpu_monitor

from infra import system_metrics
from infra.system_metrics import SystemMetrics, interval


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


class FakeDriver:
    """The calls of NVML, answered as by two GPUs of which the second has no power meter."""

    NVMLError = pynvml.NVMLError

    @staticmethod
    def nvmlInit() -> None:  # noqa: N802
        """There is a driver."""

    @staticmethod
    def nvmlDeviceGetCount() -> int:  # noqa: N802
        return 2

    @staticmethod
    def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
        return index

    @staticmethod
    def nvmlDeviceGetMemoryInfo(index: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=(1 - index) * 10**9, total=4 * 10**9)

    @staticmethod
    def nvmlDeviceGetUtilizationRates(index: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=87 - 87 * index)

    @staticmethod
    def nvmlDeviceGetPowerUsage(index: int) -> int:  # noqa: N802
        if index:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 250_500

    @staticmethod
    def nvmlDeviceGetEnforcedPowerLimit(index: int) -> int:  # noqa: N802
        return 501_000


def due(monkeypatch) -> SystemMetrics:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.001")
    machine = SystemMetrics()
    machine._due = 0.0
    return machine


def test_gpus_by_mlflows_names(monkeypatch, caplog):
    monkeypatch.setattr(gpu_monitor, "pynvml", FakeDriver)
    found = due(monkeypatch).sample()
    assert {name: value for name, value in found.items() if "gpu" in name} == {
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_memory_usage_megabytes": 1000.0,
        "system/gpu_0_utilization_percentage": 87.0,
        "system/gpu_0_power_usage_watts": 250.5,
        "system/gpu_0_power_usage_percentage": 50.0,
        "system/gpu_1_memory_usage_percentage": 0.0,
        "system/gpu_1_memory_usage_megabytes": 0.0,
        "system/gpu_1_utilization_percentage": 0.0,
    }
    assert not caplog.records, "a warning at each sample"


def test_without_a_gpu_there_are_no_figures_of_any(monkeypatch, caplog):
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(gpu_monitor.pynvml, "nvmlInit", no_driver)
    found = due(monkeypatch).sample()
    assert "system/cpu_utilization_percentage" in found
    assert not [name for name in found if "gpu" in name]
    assert not caplog.records
