"""DINOv2's ViT-L/14 as an extractor (Oquab et al. 2023, arXiv:2304.07193): features that no label has shaped.

Images are prepared as in the evaluation of Stein et al. 2023, arXiv:2306.04675, who find that its FID agrees best with
people. torch.hub runs the code of a repository, so the commit is pinned; the weights' digest is checked.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.files import Bars, file_digest, no_bars
from gan_core.metrics.extractors.extractor import FeatureNet
from gan_core.metrics.extractors.inception import fetch_weights
from gan_core.settings import SettingsError

REPOSITORY, COMMIT = "facebookresearch/dinov2", "e1277af2ba9496fbadf7aec6eba56e8d882d1e35"
ENTRY = "dinov2_vitl14"
"""The function of the repository's hubconf.py that makes the network."""
WEIGHTS = "dinov2_vitl14_pretrain.pth"
URL = f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{WEIGHTS}"
SHA256 = "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"

SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_AT_ONCE = 8  # images at once on a CPU
_FETCH = (
    "metrics.download=true without metrics.weights (1.2 GB, once; torch.hub then runs the code of"
    f" github.com/{REPOSITORY} at {COMMIT[:12]})"
)


class DinoV2(FeatureNet):
    """The class token of a vision transformer, (N, 1024). `net`: images (N, 3, 224, 224) -> features (N, D)."""

    name = "dinov2"
    resize = f"{SIDE}x{SIDE} bicubic, as Pillow"
    input_range = "ImageNet's mean 0 and variance 1"
    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """Images (N, 1 or 3, H, W) in [-1, 1] -> features (N, D), float32. Grey becomes three equal channels. Raises
        ValueError for another shape."""
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            shape = tuple(images.shape)
            raise ValueError(f"{self.name} looks at images (N, 1 or 3, H, W), not {shape}; nearest: (N, 3, H, W)")
        some = images.split(_AT_ONCE) if images.device.type == "cpu" else (images,)
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self.net(self.prepared(part)) for part in some]).float(), None

    def prepared(self, images: Tensor) -> Tensor:
        """What the network sees, (N, 3, 224, 224): resized as 8-bit images, normalised."""
        resized = (images.float() + 1) * 127.5
        for size in ((images.shape[2], SIDE), (SIDE, SIDE)):  # Pillow rounds to bytes after each direction
            resized = F.interpolate(resized, size, mode="bicubic", antialias=True).round().clamp(0, 255)
        return (resized.expand(-1, 3, -1, -1) / 255 - self.mean) / self.deviation


def hub_folder() -> Path:
    """Where torch.hub keeps the repository at the pinned commit."""
    return Path(torch.hub.get_dir()) / f"{REPOSITORY.replace('/', '_')}_{COMMIT}"


def load_dinov2(weights: Path) -> DinoV2:
    """The network with weights from a file, float32, in evaluation mode. Downloads nothing.

    Raises SettingsError if torch.hub lacks the repository at its pinned commit, ValueError for another file.
    """
    folder = hub_folder()
    if not (folder / "hubconf.py").is_file():
        raise SettingsError(f"metrics.extractor=dinov2: there is no {folder}", nearest=_FETCH)
    net = _made(partial(torch.hub.load, str(folder), ENTRY, source="local"))
    try:
        net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises many types for other files
        said = " ".join(str(error).split())[:120]
        raise ValueError(f"no weights of {DinoV2.name} in {weights}: {said}; nearest: {WEIGHTS}") from None
    return DinoV2(net).requires_grad_(False).float().eval()


def _made(load: Any) -> nn.Module:
    """The network without weights. Its random ones leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        net: nn.Module = load(pretrained=False, verbose=False)
    return net


def fetched(download: bool, bars: Bars = no_bars) -> Path:
    """The file of published weights in torch.hub's folder; with `download`, what is missing is fetched there, the code
    too. Raises SettingsError that says what to do, and for weights of another digest."""
    checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
    file = checkpoints / WEIGHTS
    if download:
        try:
            if not (hub_folder() / "hubconf.py").is_file():
                # torch.hub's validation knows branches and tags alone: a commit's own name says what it holds.
                _made(partial(torch.hub.load, f"{REPOSITORY}:{COMMIT}", ENTRY, trust_repo=True, skip_validation=True))
            return fetch_weights(checkpoints, URL, SHA256, bars)
        except (OSError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())
            raise SettingsError(
                f"metrics.download=true: {said}", nearest=f"metrics.weights=FILE of {WEIGHTS}"
            ) from None
    if not file.is_file():
        right = f"{_FETCH}, or metrics.weights=FILE of {WEIGHTS}"
        raise SettingsError(f"metrics.extractor=dinov2: there is no {file}", nearest=right)
    found = file_digest(file)
    if found != SHA256:
        raise SettingsError(f"{file}: its sha256 is {found[:16]}..., not {SHA256[:16]}...", nearest=f"rm {file}")
    return file
