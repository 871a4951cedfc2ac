"""The Inception-v3 of published FIDs (TensorFlow's graph of 2015-12-05), and the download of its weights.

Szegedy et al. 2016, table 1, with the graph's differences: average pools exclude the padding, the last block has a max
pool, the resize is TensorFlow 1's bilinear one, there are 1008 classes. The numbers equal torch-fidelity's; the order
of operations is chosen for speed.
"""

from __future__ import annotations

import http.client
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.files import Bars, file_digest, no_bars
from gan_core.metrics.extractors.extractor import FeatureNet

PUBLISHED_NAME = "weights-inception-2015-12-05-6726825d.pth"
PUBLISHED_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{PUBLISHED_NAME}"
PUBLISHED_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

SIDE = 299  # side of the network's input, in pixels
_AT_ONCE = 16  # images at once on a CPU, so that activations stay in its cache
_PIECE, _PATIENCE = 2**18, 60  # bytes per read; seconds without data before giving up

# A layer is name:channels:kernel[/stride]. Zero padding keeps the size, unless a stride is given: then there is none.
# A line is a chain of layers; layers joined by + have the same input.
_STEM = (
    "Conv2d_1a_3x3:32:3x3/2 Conv2d_2a_3x3:32:3x3/1 Conv2d_2b_3x3:64:3x3",
    "Conv2d_3b_1x1:80:1x1 Conv2d_4a_3x3:192:3x3/1",
)
_A = (
    "branch1x1:64:1x1",
    "branch5x5_1:48:1x1 branch5x5_2:64:5x5",
    "branch3x3dbl_1:64:1x1 branch3x3dbl_2:96:3x3 branch3x3dbl_3:96:3x3",
)
_B = ("branch3x3:384:3x3/2", "branch3x3dbl_1:64:1x1 branch3x3dbl_2:96:3x3 branch3x3dbl_3:96:3x3/2")
_C = (
    "branch1x1:192:1x1",
    "branch7x7_1:{0}:1x1 branch7x7_2:{0}:1x7 branch7x7_3:192:7x1",
    "branch7x7dbl_1:{0}:1x1 branch7x7dbl_2:{0}:7x1 branch7x7dbl_3:{0}:1x7"
    " branch7x7dbl_4:{0}:7x1 branch7x7dbl_5:192:1x7",
)
_D = (
    "branch3x3_1:192:1x1 branch3x3_2:320:3x3/2",
    "branch7x7x3_1:192:1x1 branch7x7x3_2:192:1x7 branch7x7x3_3:192:7x1 branch7x7x3_4:192:3x3/2",
)
_E = (
    "branch1x1:320:1x1",
    "branch3x3_1:384:1x1 branch3x3_2a:384:1x3+branch3x3_2b:384:3x1",
    "branch3x3dbl_1:448:1x1 branch3x3dbl_2:384:3x3 branch3x3dbl_3a:384:1x3+branch3x3dbl_3b:384:3x1",
)
# A block: its name, its branches, the value of {0}, the kind of its pool, the channels of the layer at the pool (0:
# there is none, and the pool has stride 2).
_BLOCKS = (
    ("Mixed_5b", _A, 0, "mean", 32),
    ("Mixed_5c", _A, 0, "mean", 64),
    ("Mixed_5d", _A, 0, "mean", 64),
    ("Mixed_6a", _B, 0, "max", 0),
    ("Mixed_6b", _C, 128, "mean", 192),
    ("Mixed_6c", _C, 160, "mean", 192),
    ("Mixed_6d", _C, 160, "mean", 192),
    ("Mixed_6e", _C, 192, "mean", 192),
    ("Mixed_7a", _D, 0, "max", 0),
    ("Mixed_7b", _E, 0, "mean", 192),
    ("Mixed_7c", _E, 0, "max", 192),
)


class Conv(nn.Module):
    """A convolution with its BatchNorm folded in, then ReLU. (N, C, H, W) -> (N, out, H', W')."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, padding: tuple[int, int], relu: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.padding, self.relu = (stride, stride), padding, relu

    def forward(self, x: Tensor) -> Tensor:
        # cuDNN can add bias and ReLU in the same kernel, which saves memory traffic. It is slow for an input of three
        # channels (github.com/pytorch/pytorch/issues/68506).
        if self.relu and x.is_cuda and x.shape[1] % 4 == 0 and torch.backends.cudnn.enabled:
            try:
                return torch.cudnn_convolution_relu(x, self.weight, self.bias, self.stride, self.padding, (1, 1), 1)
            except RuntimeError:  # there is no such kernel for this shape, type and GPU
                pass
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return x.relu_() if self.relu else x


class ParallelBranches(nn.ModuleList):
    """Modules with the same input; their outputs are concatenated. (N, C, H, W) -> (N, sum of outs, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([module(x) for module in self], dim=1)


class _Builder:
    """Builds modules from a published state dict, in float64. Methods raise ValueError that names the tensor."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.left = {key: value for key, value in weights.items() if not key.endswith(".num_batches_tracked")}

    def take(self, key: str, *shape: int) -> Tensor:
        """Removes and returns the tensor of that name, which must exist in that shape."""
        tensor = self.left.pop(key, None)
        if tensor is None:
            raise ValueError(f"{key} is missing")
        if tensor.shape != shape:
            raise ValueError(f"{key} is {tuple(tensor.shape)}, not {shape}")
        if not tensor.isfinite().all():
            raise ValueError(f"{key} is not finite")
        return tensor.double()

    def conv(self, text: str, channels: int, relu: bool = True) -> Conv:
        """One layer, with its BatchNorm (epsilon 0.001) folded in."""
        name, out, shape = text.split(":")
        size, _, stride = shape.partition("/")
        height, width = (int(side) for side in size.split("x"))
        weight = self.take(f"{name}.conv.weight", int(out), channels, height, width)
        gain, offset, mean, variance = (
            self.take(f"{name}.bn.{part}", int(out)) for part in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise ValueError(f"{name}.bn.running_var is negative")
        scale = gain / (variance + 0.001).sqrt()
        padding = (0, 0) if stride else (height // 2, width // 2)
        return Conv(weight * scale[:, None, None, None], offset - mean * scale, int(stride or 1), padding, relu)

    def chain(self, line: str, channels: int, prefix: str = "") -> tuple[nn.Module, int]:
        """A chain of layers, and its number of output channels."""
        stages: list[nn.Module] = []
        for stage in line.split():
            sides = [self.conv(prefix + text, channels) for text in stage.split("+")]
            stages.append(ParallelBranches(sides) if len(sides) > 1 else sides[0])
            channels = sum(len(side.bias) for side in sides)
        return nn.Sequential(*stages), channels

    def pool(self, kind: str, out: int, channels: int, prefix: str) -> tuple[nn.Module, int]:
        """The branch of a block with the pool, and its number of output channels."""
        if not out:
            return nn.MaxPool2d(3, 2), channels
        layer = self.conv(f"{prefix}branch_pool:{out}:1x1", channels, relu=kind == "max")
        if kind == "max":
            return nn.Sequential(nn.MaxPool2d(3, 1, 1), layer), out
        # The graph averages first. A 1x1 convolution commutes with that, and then fewer channels are averaged.
        return nn.Sequential(layer, nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.ReLU(inplace=True)), out


class InceptionV3(FeatureNet):
    """The network of published FIDs. `weights`: a state dict as published.

    It computes in the type of its parameters, also under autocast. They are float64 at first, so that `float()` rounds
    after folding. Raises ValueError, naming the tensor, for a state dict of another network or with values that are not
    finite.
    """

    name = "inception-v3"
    width, classes = 2048, 1008  # number of features; number of logits
    resize = f"{SIDE}x{SIDE} bilinear, as TensorFlow 1"
    input_range = "(x - 128) / 128 of 0..255"

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        builder = _Builder(weights)
        modules: list[nn.Module] = []
        channels = 3
        for line in _STEM:
            chain, channels = builder.chain(line, channels)
            modules += [chain, nn.MaxPool2d(3, 2)]
        for name, lines, inner, pool, out in _BLOCKS:
            branches = [builder.chain(line.format(inner), channels, f"{name}.") for line in lines]
            branches.append(builder.pool(pool, out, channels, f"{name}."))
            modules.append(ParallelBranches(module for module, _ in branches))
            channels = sum(count for _, count in branches)
        self.body = nn.Sequential(*modules)
        self.fc = nn.Parameter(builder.take("fc.weight", self.classes, channels), requires_grad=False)
        builder.take("fc.bias", self.classes)  # the Inception Score uses logits without bias
        if builder.left:
            raise ValueError(f"{min(builder.left)} is unknown")
        first = next(module for module in self.modules() if isinstance(module, Conv))
        # (v - 128) / 128 of v = 127.5 x + 127.5, folded into the first convolution, which has no padding.
        first.bias.sub_(first.weight.sum(dim=(1, 2, 3)) * (0.5 / 128))
        first.weight.mul_(127.5 / 128)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 1 or 3, H, W) in [-1, 1] -> features (N, 2048) and logits without bias (N, 1008), float32.

        Grey becomes three equal channels. Raises ValueError for another shape.
        """
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            shape = tuple(images.shape)
            raise ValueError(f"{self.name} looks at images (N, 1 or 3, H, W), not {shape}; nearest: (N, 3, H, W)")
        some = images.split(_AT_ONCE) if images.device.type == "cpu" else (images,)
        with torch.autocast(images.device.type, enabled=False):
            features = torch.cat([self._features(part) for part in some])
            return features.float(), (features @ self.fc.T).float()

    def _features(self, images: Tensor) -> Tensor:
        resized = tensorflow_resize(images.to(torch.promote_types(self.fc.dtype, torch.float32)))
        return self.body(resized.to(self.fc.dtype).expand(-1, 3, -1, -1)).mean(dim=(2, 3))


def tensorflow_resize(images: Tensor) -> Tensor:
    """Images (N, C, H, W) -> (N, C, 300, 300): the first 299 rows and columns are TensorFlow 1's bilinear resize.

    In TensorFlow 1, row i of 299 is at i * H / 299, and the last row of the source is repeated below. With that row
    added, `align_corners` to 300 rows gives the same positions. The network's first convolution, of stride 2, does not
    reach the last row and column.
    """
    padded = F.pad(images, (0, 1, 0, 1), mode="replicate")
    return F.interpolate(padded, size=(SIDE + 1, SIDE + 1), mode="bilinear", align_corners=True)


def load_inception(path: Path) -> InceptionV3:
    """The network with weights from a file, float32, in evaluation mode. Raises ValueError for any other file."""
    try:
        return InceptionV3(_read(path)).float().eval()
    except ValueError as error:
        raise ValueError(f"no weights of {InceptionV3.name} in {path}: {error}; nearest: {PUBLISHED_NAME}") from None


def _read(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    except Exception as error:  # torch.load raises many types; its text may advise to trust the file
        raise ValueError(f"damaged, or not of tensors alone ({type(error).__name__})") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"a {type(found).__name__}, no state dict")
    return {str(name): value for name, value in found.items()}


def is_published(digest: str) -> bool:
    """Whether that sha256 (64 hexadecimal digits) is that of the weights of published FIDs."""
    return digest == PUBLISHED_SHA256


def fetch_weights(
    folder: Path,
    url: str = PUBLISHED_URL,
    sha256: str = PUBLISHED_SHA256,
    bars: Bars = no_bars,
) -> Path:
    """Downloads `url` into `folder`, unless the file is there. Returns its path. `bars` count bytes.

    The download goes to a temporary file, which is renamed only if its digest is `sha256`. Raises ValueError that says
    what to do instead.
    """
    path = folder / url.rpartition("/")[2]
    aside = folder / f".{path.name}-{uuid.uuid4().hex}"
    try:
        if path.is_file() and file_digest(path) == sha256:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        _download(url, aside, bars)
        found = file_digest(aside)
        if found != sha256:
            raise ValueError(f"its sha256 is {found[:16]}..., not {sha256[:16]}...")
        aside.replace(path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ValueError(f"{url} could not be fetched: {error}; nearest: metrics.weights=FILE of {path.name}") from None
    finally:
        with suppress(OSError):
            aside.unlink()
    return path


def _download(url: str, path: Path, bars: Bars) -> None:
    with urllib.request.urlopen(url, timeout=_PATIENCE) as answer, path.open("xb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        done = 0
        with bars(f"fetching {url.rpartition('/')[2]}", total) as move:
            while piece := answer.read(_PIECE):
                done += file.write(piece)
                move(len(piece))
    if done < total:
        raise ValueError(f"it broke off after {done:,} of {total:,} bytes")
