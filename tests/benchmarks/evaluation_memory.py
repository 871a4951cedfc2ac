"""Peak memory of an evaluation, at few and at many samples, each in a process of its own.

    python tests/benchmarks/evaluation_memory.py [FEW MANY]

Features are as wide as Inception's (2048), from a net that costs nothing, so that what is kept of them would show.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from gan_core.metrics.extractors.extractor import FeatureNet

WIDTH = 2048


class Wide(FeatureNet):
    """A fixed random layer: 64 pixels -> 2048 features and 10 logits."""

    classes = 10

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(width, 64, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(torch.nn.functional.linear(images.flatten(1), self.weight))
        return features, features[:, :10]


class Narrow(Wide):
    """256 features, for a quick look."""

    def __init__(self) -> None:
        super().__init__(256)


def evaluate(samples: int, net: str) -> None:
    """Trains nothing: saves a game as it begins and evaluates it; prints the peak of this process in MiB."""
    from rich.console import Console

    from gan_core import checkpoint
    from gan_core.experiment import Experiment
    from gan_core.loop import Game
    from gan_core.measures import Metrics
    from pipelines.evaluate.command import EvaluateOptions, evaluate_checkpoint

    experiment = Experiment.load({"family": "wgan"}).override("data.image_size=8", "family.width=4")
    with tempfile.TemporaryDirectory() as folder:
        saved = checkpoint.save(Game(experiment, (1, 8, 8)), Path(folder, "checkpoint"))
        settings = Metrics(extractor=f"{Path(__file__).stem}:{net}", samples=samples)
        evaluate_checkpoint(saved, settings, EvaluateOptions(Path(folder), Console(quiet=True)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(samples: int, net: str = "Wide") -> float:
    """MiB that a process of its own needed at most."""
    command = [sys.executable, __file__, "--samples", str(samples), net]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--samples"]:
        evaluate(int(sys.argv[2]), sys.argv[3])
    else:
        few, many = (int(word) for word in sys.argv[1:] or ("5000", "50000"))
        peaks = {count: peak(count) for count in (few, many)}
        for count, mebibytes in peaks.items():
            print(f"{count:>7} samples: peak {mebibytes:.0f} MiB")
        print(f"ratio {peaks[many] / peaks[few]:.3f}")
