"""What the machine does meanwhile: CPU, memory, disk, network and GPUs, as MLflow measures and names them."""

import math
import os
import subprocess
import time
from typing import Any, ClassVar

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


def interval() -> float:
    """Seconds between two samples, infinite if none is wanted: MLflow's own variables say. Raises ValueError for a
    value that MLflow does not take."""
    name = MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.name
    wanted = _taken(MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING, "false, or true")
    seconds = _taken(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL, f"{SECONDS:g}") or SECONDS
    return float("inf") if name in os.environ and not wanted else float(seconds)


def _taken(variable: Any, right: str) -> Any:
    name = variable.name
    try:
        return variable.get()
    except ValueError:
        raise ValueError(f"{name}={os.environ[name]} is nothing that MLflow takes; nearest: {name}={right}") from None


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


class SmiMonitor(BaseMetricsMonitor):
    """GPUs by the driver's own program, where MLflow's monitor lacks its package (nvidia-ml-py), under the same names.

    Raises RuntimeError if there is no such program, or no GPU.
    """

    ASKED: ClassVar = ("index", "memory.used", "memory.total", "utilization.gpu", "power.draw")

    def __init__(self) -> None:
        super().__init__()
        if not self._ask():
            raise RuntimeError("nvidia-smi shows no GPU")

    def collect_metrics(self) -> None:
        """Adds a sample of each GPU; of what it cannot say (power, of some) nothing."""
        for index, used, total, busy, watts in self._ask():
            found = {
                "memory_usage_percentage": 100 * used / total,
                "memory_usage_megabytes": used * 1.048576,
                "utilization_percentage": busy,
                "power_usage_watts": watts,
            }
            for name, value in found.items():
                if math.isfinite(value):
                    self._metrics[f"gpu_{index:.0f}_{name}"].append(value)

    def aggregate_metrics(self) -> dict[str, float]:
        """Means of what was collected."""
        return {name: round(sum(values) / len(values), 1) for name, values in self._metrics.items()}

    def _ask(self) -> list[list[float]]:
        command = ["nvidia-smi", f"--query-gpu={','.join(self.ASKED)}", "--format=csv,noheader,nounits"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return []
        return [[_number(cell) for cell in line.split(",")] for line in told.splitlines() if line.strip()]


def _number(cell: str) -> float:
    """NaN for "[N/A]" and the like."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _monitors() -> list[BaseMetricsMonitor]:
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for gpus in (GPUMonitor, SmiMonitor):
        try:
            return [*monitors, gpus()]
        except (ImportError, RuntimeError):  # without nvidia-ml-py; without a GPU
            continue
    return monitors
