"""Images per second through Inception-v3: ours beside torch-fidelity's, with the same weights, in one run.

Both get the same uint8 images; they take turns, and the ratio is the median over the turns. On a GPU they are compared
with TF32 convolutions (PyTorch's default) and without, and ours also in bfloat16: the FID shift is the FID of other
images against a reference of exact features, less the same with both exact. Weights are random, or those of a file.

    OMP_NUM_THREADS=2 python tests/benchmarks/inception_throughput.py [weights-inception-2015-12-05-6726825d.pth]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from gan_core.metrics.extractors.inception import InceptionV3, load_inception
from gan_core.metrics.fid import frechet_distance
from gan_core.metrics.statistics.moments import Moments

BATCH, SIZE, TURNS, COUNT = 64, 32, 7, 4096

Features = Callable[[Tensor], Tensor]
"""uint8 images (N, 3, H, W) -> (N, 2048)."""


class Unloaded(FeatureExtractorInceptionV3):
    """torch-fidelity's network before it has any weights: names and shapes."""

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        pass


def random_weights(folder: Path) -> Path:
    """A file like the published one."""
    path = folder / "random.pth"
    torch.save({}, path)
    draw = torch.Generator().manual_seed(0)
    weights = Unloaded("names", ["2048"], feature_extractor_weights_path=path).state_dict()
    for name, tensor in weights.items():
        if name.endswith("conv.weight"):
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5, generator=draw)
        elif name.endswith(("bn.bias", "running_mean", "fc.weight")):
            tensor.normal_(std=0.1, generator=draw)
    torch.save(weights, path)
    return path


def pictures(count: int, seed: int, device: torch.device) -> Tensor:
    """uint8 images (count, 3, SIZE, SIZE) of coarse and fine noise, each of its own contrast."""
    draw = torch.Generator().manual_seed(seed)
    coarse = F.interpolate(torch.rand(count, 3, 4, 4, generator=draw), (SIZE, SIZE), mode="bilinear")
    fine = torch.rand(count, 1, 1, 1, generator=draw) * torch.rand(count, 3, SIZE, SIZE, generator=draw)
    return ((coarse + fine) * 127.5).round().to(device, torch.uint8)


def seconds(features: Features, images: Tensor) -> float:
    """Of one batch, from images on the device to features on it."""
    start = perf_counter()
    features(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - start


def compare(ours: Features, theirs: Features, device: torch.device) -> dict[str, float]:
    """Images per second of both, ours over theirs, and by how much the features differ (of the largest)."""
    images = pictures(BATCH, 0, device)
    wanted = theirs(images)
    apart = float((ours(images) - wanted).abs().max() / wanted.abs().max())
    turns = [(seconds(ours, images), seconds(theirs, images)) for _ in range(TURNS)]
    return {
        "ours": round(BATCH / statistics.median(mine for mine, _ in turns), 1),
        "torch_fidelity": round(BATCH / statistics.median(other for _, other in turns), 1),
        "ratio": round(statistics.median(other / mine for mine, other in turns), 2),
        "features_apart": float(f"{apart:.1e}"),
    }


def fid(features: Features, exact: Features, device: torch.device) -> float:
    """FID of COUNT images, as `features` sees them, against COUNT others, as `exact` does."""
    seen = [features(pictures(BATCH, seed, device)) for seed in range(COUNT // BATCH)]
    real = [exact(pictures(BATCH, COUNT + seed, device)) for seed in range(COUNT // BATCH)]
    return frechet_distance(Moments.of(torch.cat(real)).gaussian, Moments.of(torch.cat(seen)).gaussian)


def features_of(net: InceptionV3) -> Features:
    """Ours, from the same uint8 images."""
    return lambda images: net(images.float() / 127.5 - 1)[0]


def with_tf32(features: Features, allowed: bool) -> Features:
    """The same with convolutions in TF32 (10 bits of mantissa), or without."""

    def run(images: Tensor) -> Tensor:
        torch.backends.cudnn.allow_tf32 = allowed
        return features(images)

    return run


def main() -> None:
    """Prints one line of JSON per device and precision."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        weights = Path(sys.argv[1]) if sys.argv[1:] else random_weights(Path(folder))
        theirs = FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=weights)
        ours = load_inception(weights)
        cpu = compare(features_of(ours), lambda images: theirs(images)[0], torch.device("cpu"))
        print(json.dumps({"device": "cpu", "threads": torch.get_num_threads(), "batch": BATCH, **cpu}), flush=True)
        if not torch.cuda.is_available():
            return
        device = torch.device("cuda")
        other = theirs.to(device)
        mine, short = features_of(ours.to(device)), features_of(load_inception(weights).to(device).bfloat16())
        ways = {
            "tf32": (with_tf32(mine, True), with_tf32(lambda images: other(images)[0], True)),
            "fp32": (with_tf32(mine, False), with_tf32(lambda images: other(images)[0], False)),
            "ours bf16, theirs tf32": (short, with_tf32(lambda images: other(images)[0], True)),
        }
        exact = ways["fp32"][0]
        unshifted = fid(exact, exact, device)
        for precision, (one, reference) in ways.items():
            found = compare(one, reference, device)
            found["fid"], found["fid_shift"] = round(unshifted, 4), round(fid(one, exact, device) - unshifted, 6)
            about = {"device": torch.cuda.get_device_name(), "precision": precision, "batch": BATCH}
            print(json.dumps({**about, **found}), flush=True)


if __name__ == "__main__":
    main()
