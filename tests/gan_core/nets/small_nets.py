"""Small networks of every kind, and what the tests of networks share."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from gan_core import nets

LATENT = 6

GENERATORS = {
    "mlp": lambda shape, width: nets.mlp_generator(LATENT, shape, 4 * width),
    "dcgan": partial(nets.dcgan_generator, LATENT),
    "resnet": partial(nets.resnet_generator, LATENT),
    "infogan": partial(nets.infogan_generator, LATENT),
    "began": partial(nets.began_decoder, LATENT),
    "autoencoder": partial(nets.conv_decoder, LATENT),
}
CRITICS = {
    "mlp": lambda shape, width: nets.mlp_critic(shape, 4 * width),
    "dcgan": partial(nets.dcgan_critic, batch_norm=False),
    "resnet": nets.resnet_critic,
    "infogan": partial(nets.infogan_critic, batch_norm=False),
}
ENCODERS = {
    "dcgan": lambda shape, width: nets.dcgan_encoder(shape, LATENT, width),
    "autoencoder": lambda shape, width: nets.conv_encoder(shape, LATENT, width),
    "infogan": lambda shape, width: nets.infogan_encoder(shape, LATENT, width, batch_norm=False),
}

SIZES = [*((side, side) for side in (8, 16, 28, 32, 48, 64, 128, 256)), (24, 40), (64, 128), (96, 16)]
every_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
every_colour = pytest.mark.parametrize("channels", [1, 3])
every_generator = pytest.mark.parametrize("name", GENERATORS)
every_critic = pytest.mark.parametrize("name", CRITICS)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(build, *args, **kwargs):
    torch.manual_seed(0)
    return build(*args, **kwargs)


def count(net):
    return sum(weight.numel() for weight in net.parameters())


def shaken(net):
    """The net in float64, with noise on the biases and scales, which start as zeros and ones."""
    net = net.double()
    for seed, weight in enumerate(net.parameters()):
        if weight.dim() == 1:
            weight.data += 0.3 * draw(*weight.shape, seed=seed, dtype=torch.float64)
    return net


def layers_with_weights(net):
    """Name, weight and layer, for each weight with enough numbers to measure its deviation."""
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 3000:
            yield name, layer.weight.detach(), layer
