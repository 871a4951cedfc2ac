"""Core-seconds of what lies between a typed line and the first round of Fashion-MNIST: data and FID's reference.

    python tests/benchmarks/fashion_mnist/first_round.py [IMAGE_SIZE]

User and system time of one process with an empty cache, by step, as a table. The column of 15 passes is what the
classifier took without a bound of its steps: the time of a step, by as many threads as there are cores, times their
number. Where cores are busy its threads wait for each other, so compare the columns of one call only. Not in it: the
start of Python, PyTorch, MLflow and Ray, which does not depend on the data.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from gan_core import data
from gan_core.data.dataset import Dataset
from gan_core.experiment import Data
from gan_core.measures import Metrics
from gan_core.metrics.extractors.classifier import BATCH, MOST_STEPS, PASSES, Classifier
from gan_core.metrics.statistics.reference import Reference

TIMED_STEPS = 20


def core_seconds() -> float:
    times = os.times()
    return times.user + times.system


def step_before(dataset: Dataset) -> float:
    """Core-seconds of a step of training by all cores."""
    net = Classifier(dataset.shape, dataset.classes)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    began = core_seconds()
    for number in range(TIMED_STEPS):
        some = slice(number * BATCH, (number + 1) * BATCH)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(dataset.images[some] + 0)[1], dataset.labels[some]).backward()
        optimizer.step()
    return (core_seconds() - began) / TIMED_STEPS


def main(size: int) -> None:
    rows: dict[str, float] = {}

    @contextmanager
    def bars(about: str, total: float) -> Iterator[Callable[[float], None]]:
        began = core_seconds()
        yield lambda _: None
        rows[f"{about} ({total:,.0f})"] = core_seconds() - began

    with TemporaryDirectory() as cache:
        dataset = data.load(Data(name="fashion_mnist", image_size=size), Path(cache), bars)
    began = core_seconds()
    dataset.digest()
    rows["digest of the images"] = core_seconds() - began
    reference = Reference.build(Metrics(), dataset, bars=bars)
    steps = PASSES * -(-(len(dataset.images) - len(dataset.images) // 5) // BATCH)
    before = dict(rows)
    trained = next(name for name in rows if "training" in name)
    before[trained] = steps * step_before(dataset)
    print(f"| step | 15 passes by {os.cpu_count()} threads | at most {MOST_STEPS} steps by one |")
    print("|---|---|---|")
    for name, now in rows.items():
        print(f"| {name} | {before[name]:.1f} | {now:.1f} |")
    print(f"| all | {sum(before.values()):.0f} | {sum(rows.values()):.0f} |")
    print(f"\nratio {sum(before.values()) / sum(rows.values()):.1f}, accuracy {reference.extractor.accuracy:.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 28)
