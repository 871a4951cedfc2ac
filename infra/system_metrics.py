"""How busy this machine is: CPU, memory, disk, network and GPUs, as MLflow measures and names them."""

import logging
import os
import time
from contextlib import suppress
from typing import Any

from infra.mlflow.store import client_of  # noqa: F401  sets what mlflow reads while it is imported
from infra.mlflow.tracker import SYSTEM

# isort: split
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING, MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

SECONDS = 10.0

# MLflow warns at each sample of what a GPU cannot measure (some have no power meter).
logging.getLogger(GPUMonitor.__module__).setLevel(logging.ERROR)


def interval() -> float:
    """Seconds between two samples, by MLflow's own environment variables; infinite if they turn samples off.

    Raises ValueError for a value that MLflow does not take.
    """
    name = MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.name
    wanted = _value(MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING, "false, or true")
    seconds = _value(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL, f"{SECONDS:g}") or SECONDS
    return float("inf") if name in os.environ and not wanted else float(seconds)


def _value(variable: Any, right: str) -> Any:
    name = variable.name
    try:
        return variable.get()
    except ValueError:
        raise ValueError(f"{name}={os.environ[name]} is nothing that MLflow takes; nearest: {name}={right}") from None


class SystemMetrics:
    """Samples this machine at an interval, first one interval after the start: a short run has no samples."""

    def __init__(self) -> None:
        self._interval = interval()
        self._due = time.monotonic() + self._interval
        self._monitors: list[BaseMetricsMonitor] = []

    def sample(self) -> dict[str, float]:
        """The measured values, by names that begin with `system/`. Empty if no sample is due."""
        if time.monotonic() < self._due:
            return {}
        self._due = time.monotonic() + self._interval
        if not self._monitors:
            self._monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
            with suppress(RuntimeError):  # without a driver there is no GPU
                self._monitors.append(GPUMonitor())
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {SYSTEM + name: float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found
