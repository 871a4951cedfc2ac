"""How weights start: the deviations and distributions that the papers state."""

import math

import pytest
import torch
from torch import nn

from gan_core import nets
from tests.gan_core.nets.small_nets import draw, layers_with_weights, seeded

COLOUR = {side: (3, side, side) for side in (16, 28, 32, 64, 128)}


def biases(net):
    return [value for name, value in net.named_parameters() if name.endswith("bias")]


def fans(weight):
    area = math.prod(weight.shape[2:])
    return weight.shape[1] * area, weight.shape[0] * area


@pytest.mark.parametrize(
    "build",
    [
        lambda: nets.dcgan_generator(100, COLOUR[32], 32),
        lambda: nets.dcgan_critic(COLOUR[32], 32, batch_norm=True),
        lambda: nets.dcgan_encoder(COLOUR[32], 50, 32),
        lambda: nets.joint_critic(COLOUR[32], 50, 32),
    ],
    ids=["generator", "critic", "encoder", "joint critic"],
)
def test_dcgan_starts_with_deviations_of_a_fiftieth(build):
    """Radford et al. 2016: N(0, 0.02); scales N(1, 0.02)."""
    net = seeded(build)
    checked = 0
    for name, weight, _ in layers_with_weights(net):
        assert float(weight.std()) == pytest.approx(0.02, rel=0.04), name
        assert float(weight.abs().max()) > 0.06, "normal, not uniform"
        checked += 1
    assert checked >= 2
    scales = torch.cat([layer.weight.detach() for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)])
    assert float(scales.mean()) == pytest.approx(1, abs=0.01)
    assert float(scales.std()) == pytest.approx(0.02, rel=0.3)
    assert all((bias == 0).all() for bias in biases(net))


@pytest.mark.parametrize(
    "build",
    [lambda: nets.resnet_generator(128, COLOUR[32], 48), lambda: nets.resnet_critic(COLOUR[32], 48)],
    ids=["generator", "critic"],
)
def test_residual_nets_start_as_gulrajanis(build):
    """Uniform; variance 4 / (fan in + fan out) in a block's 3x3 convolutions, 2 / (fan in + fan out) elsewhere."""
    net = seeded(build)
    kinds = set()
    for name, weight, layer in layers_with_weights(net):
        in_block = "longer" in name
        wanted = math.sqrt((4 if in_block else 2) / sum(fans(weight)))
        assert float(weight.std()) == pytest.approx(wanted, rel=0.04), name
        assert float(weight.abs().max()) <= math.sqrt(3) * wanted, "uniform"
        kinds.add((in_block, isinstance(layer, nn.Conv2d)))
    assert (True, True) in kinds
    assert any((weight != 0).any() for name, weight in net.named_parameters() if "shorter" in name)
    assert all((bias == 0).all() for bias in biases(net))


def test_a_residual_generators_image_layer_has_glorots_variance():
    net = seeded(nets.resnet_generator, 8, COLOUR[16], 256)
    last = net[-2].weight.detach()
    assert float(last.std()) == pytest.approx(math.sqrt(2 / (256 * 9 + 3 * 9)), rel=0.03)


def test_shortcuts_have_glorots_variance():
    net = seeded(nets.resnet_critic, COLOUR[64], 8)
    shortcuts = [value.detach() for name, value in net.named_parameters() if "shorter" in name and value.dim() == 4]
    assert len(shortcuts) == 5
    for weight in shortcuts[2:]:
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / sum(weight.shape[:2])), rel=0.06)


def test_began_starts_uniform_as_glorot():
    net = seeded(nets.began_autoencoder, COLOUR[16], 32, 24)
    checked = 0
    for name, weight, _ in layers_with_weights(net):
        wanted = math.sqrt(2 / sum(fans(weight)))
        assert float(weight.std()) == pytest.approx(wanted, rel=0.04), name
        assert float(weight.abs().max()) <= math.sqrt(3) * wanted
        checked += 1
    assert checked > 8
    assert all((bias == 0).all() for bias in biases(net))


@pytest.mark.parametrize("side", [16, 64])
def test_signals_keep_their_size_through_the_convolutional_autoencoder(side):
    """He et al. 2015: variance 2 / inputs before ReLU, so that the second moment stays the same."""
    shape = (3, side, side)
    encoder, decoder = seeded(nets.conv_encoder, shape, 200, 32), seeded(nets.conv_decoder, 200, shape, 32)
    codes = encoder(draw(16, *shape)).detach()
    before_tanh = decoder[:-1](draw(64, 200)).detach()
    assert 0.4 < codes.square().mean() < 1.6
    assert 0.4 < before_tanh.square().mean() < 1.6
    assert all((bias == 0).all() for net in (encoder, decoder) for bias in biases(net))
