"""What the machine does meanwhile: CPU, memory, disk, network and GPUs, as MLflow measures and names them."""

import os
import time

from infra.mlflow_store import client_of  # noqa: F401  sets what mlflow reads while it is imported
from infra.mlflow_tracker import SYSTEM

# isort: split
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING, MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

SECONDS = 10.0


def interval() -> float:
    """Seconds between two samples, infinite if none is wanted: MLflow's own variables say."""
    wanted = MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
    if os.environ.get(wanted.name) is not None and not wanted.get():
        return float("inf")
    return float(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SECONDS)


class SystemMetrics:
    """Samples this machine at an interval; the first one interval after the start, so that a short run has none."""

    def __init__(self) -> None:
        self._interval = interval()
        self._due = time.monotonic() + self._interval
        self._monitors: list[BaseMetricsMonitor] = []

    def sample(self) -> dict[str, float]:
        """What there is, by names that begin with `system/`, if it is time; else nothing."""
        if time.monotonic() < self._due:
            return {}
        self._due = time.monotonic() + self._interval
        if not self._monitors:
            self._monitors = _monitors()
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {SYSTEM + name: float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found


def _monitors() -> list[BaseMetricsMonitor]:
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        return [*monitors, GPUMonitor()]
    except (ImportError, RuntimeError):  # without nvidia-ml-py, or without a GPU
        return monitors
