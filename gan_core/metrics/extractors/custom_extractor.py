"""A user's own extractor: `metrics.extractor=package.module:Class`."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import torch

from gan_core.metrics.extractors.extractor import Extractor, FeatureNet, tensors_digest
from gan_core.settings import SettingsError, imported


def custom_net(path: str) -> FeatureNet:
    """An instance of the class, with the same random weights in each process. Raises SettingsError if that fails."""
    built = imported("metrics.extractor", path)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = built()
    except Exception as error:  # a user's class may raise anything
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise SettingsError(f"metrics.extractor={path}: {said}", nearest="a class without arguments") from None
    if not isinstance(net, FeatureNet):
        raise SettingsError(
            f"metrics.extractor={path} is no FeatureNet",
            nearest=f"class {path.rpartition(':')[2]}(gan_core.metrics.extractors.FeatureNet)",
        )
    net.name = path
    return net


def custom_extractor(path: str, weights: Path | None, quantise: bool) -> Extractor:
    """The net, with weights from a file if one is given.

    The digest covers weights and source, because other code with the same weights is another extractor. Raises
    SettingsError, or ValueError for a file that does not hold its weights.
    """
    net = custom_net(path)
    if weights is not None:
        try:
            net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load raises many types for other files
            said = " ".join(str(error).split())[:120]
            raise ValueError(f"{weights} is no state dict of {path}: {said}; nearest: metrics.weights=null") from None
    source = inspect.getsource(inspect.getmodule(type(net)) or type(net))
    digest = hashlib.sha256((tensors_digest(net.state_dict()) + source).encode()).hexdigest()
    return Extractor(net.requires_grad_(False).eval(), digest, quantise)
