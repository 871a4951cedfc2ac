"""A file like that of Inception's published weights, but random, made with torch-fidelity's network."""

from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


class Unloaded(FeatureExtractorInceptionV3):
    """torch-fidelity's network without weights: names and shapes."""

    def load_state_dict(self, state_dict):
        pass


def drawn(name: str, tensor: Tensor, draw: torch.Generator) -> Tensor:
    """Random values that keep activations in range over 48 layers, with a BatchNorm that is not the identity."""
    if name.endswith("num_batches_tracked"):
        return tensor
    noise = torch.randn(tensor.shape, generator=draw)
    if name.endswith("conv.weight"):
        return noise * (2 / tensor[0].numel()) ** 0.5
    if name.endswith(("running_var", "bn.weight")):
        return 1 + 0.25 * noise.clamp(-2, 2)
    return 0.1 * noise


def write_random_weights(path: Path) -> Path:
    """95 MB of weights, the same at every call."""
    none = path.with_suffix(".none")
    torch.save({}, none)
    empty = Unloaded("names", ["2048"], feature_extractor_weights_path=none)
    none.unlink()
    draw = torch.Generator().manual_seed(0)
    torch.save({name: drawn(name, value, draw) for name, value in empty.state_dict().items()}, path)
    return path
