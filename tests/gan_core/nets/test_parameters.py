"""The number of parameters, and for DCGAN their names, order and bits: old checkpoints must load."""

import pytest
import torch
from torch import nn

from gan_core import nets
from tests.gan_core.nets.small_nets import LATENT, count, seeded

# Names, order and bits


def drawn(layers):
    """The parameters of the layers in order, initialised as in DCGAN."""
    for layer in layers:
        if layer.weight.dim() > 1:
            nn.init.normal_(layer.weight, 0.0, 0.02)
        else:
            nn.init.normal_(layer.weight, 1.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return [weight for layer in layers for weight in layer.parameters()]


def same_bits(net, wanted):
    found = list(net.parameters())
    assert len(found) == len(wanted)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_a_dcgan_generators_parameters_are_these_in_this_order():
    layers = seeded(
        lambda: [
            nn.Linear(LATENT, 8 * 16, bias=False),
            nn.BatchNorm2d(8),
            nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ConvTranspose2d(4, 3, 4, 2, 1),
        ]
    )
    wanted = drawn(layers)
    net = seeded(nets.dcgan_generator, LATENT, (3, 16, 16), 4)
    same_bits(net, wanted)
    assert list(net.state_dict())[:3] == ["0.project.weight", "1.weight", "1.bias"]
    assert list(net.state_dict())[-2:] == ["6.weight", "6.bias"]


def test_a_dcgan_critics_parameters_are_these_in_this_order():
    layers = seeded(
        lambda: [
            nn.Conv2d(3, 4, 4, 2, 1),
            nn.Conv2d(4, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.Linear(8 * 16, 1),
        ]
    )
    wanted = drawn(layers)
    net = seeded(nets.dcgan_critic, (3, 16, 16), 4, batch_norm=True)
    same_bits(net, wanted)
    names = [name for name, _ in net.named_parameters()]
    assert names == ["0.weight", "0.bias", "2.weight", "3.weight", "3.bias", "6.weight", "6.bias"]


# Number


def conv(inputs, outputs, kernel, bias=True):
    return inputs * outputs * kernel**2 + bias * outputs


def generator_block(inputs, outputs):
    """The block of mimicry without the biases of its convolutions, which a later BatchNorm removes."""
    ours = conv(inputs, outputs, 3, False) + conv(outputs, outputs, 3, False) + conv(inputs, outputs, 1, False)
    return ours + 2 * inputs + 2 * outputs


def critic_block(inputs, outputs, hidden):
    return conv(inputs, hidden, 3) + conv(hidden, outputs, 3) + conv(inputs, outputs, 1)


COLOUR = {side: (3, side, side) for side in (16, 28, 32, 64, 128)}
COUNTS = {
    # PyTorch's example of DCGAN has 3,576,704 and 2,765,568; ours has biases where no BatchNorm follows.
    "DCGAN's generator at 64": (lambda: nets.dcgan_generator(100, COLOUR[64], 64), 3_576_704 + 3),
    "DCGAN's critic at 64": (lambda: nets.dcgan_critic(COLOUR[64], 64, batch_norm=True), 2_765_568 + 64 + 1),
    # From the layers of Gulrajani et al. 2017 (width 128) and of mimicry (generator 256), less 3 biases per block.
    "WGAN-GP's generator at 32": (lambda: nets.resnet_generator(128, COLOUR[32], 128), 1_204_483 - 9 * 128),
    "mimicry's generator at 32": (lambda: nets.resnet_generator(128, COLOUR[32], 256), 4_276_739 - 9 * 256),
    "WGAN-GP's critic at 32": (lambda: nets.resnet_critic(COLOUR[32], 128), 1_053_825),
    "mimicry's generator at 64": (
        lambda: nets.resnet_generator(128, COLOUR[64], 64),
        (128 + 1) * 1024 * 16
        + sum(generator_block(2 * half, half) for half in (512, 256, 128, 64))
        + 2 * 64
        + conv(64, 3, 3),
    ),
    "mimicry's critic at 64": (
        lambda: nets.resnet_critic(COLOUR[64], 64),
        critic_block(3, 64, 64) + sum(critic_block(half, 2 * half, half) for half in (64, 128, 256, 512)) + 1024 + 1,
    ),
    "mimicry's critic at 128": (
        lambda: nets.resnet_critic(COLOUR[128], 64),
        critic_block(3, 64, 64)
        + sum(critic_block(half, 2 * half, half) for half in (64, 128, 256, 512))
        + 2 * conv(1024, 1024, 3)
        + (1024 + 1),
    ),
    "the field notes' encoder at 28": (
        lambda: nets.conv_encoder((1, 28, 28), 20, 16),
        conv(1, 16, 5) + conv(16, 32, 5) + (32 * 7 * 7 + 1) * 20,
    ),
    "the field notes' decoder at 28": (
        lambda: nets.conv_decoder(20, (1, 28, 28), 16),
        21 * 32 * 7 * 7 + conv(32, 16, 5) + conv(16, 1, 5),
    ),
    "Goodfellow's generator": (
        lambda: nets.mlp_generator(100, (1, 28, 28), 1024),
        101 * 1024 + 1025 * 1024 + 1025 * 784,
    ),
    "BiGAN's critic of pairs at 16": (
        lambda: nets.joint_critic((1, 16, 16), 50, 64),
        conv(1, 64, 4) + conv(64, 128, 4, False) + 2 * 128 + (128 * 16 + 50 + 1) * 1024 + 1025,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_number_of_parameters_is_the_published_or_hand_computed(name):
    build, wanted = COUNTS[name]
    assert count(build()) == wanted


def test_began_has_the_papers_number_of_parameters_but_for_a_fiftieth():
    """Berthelot et al. 2017: 17.3 million for 128x128 and n = 128; they do not state the number of layers."""
    autoencoder, generator = nets.began_autoencoder(COLOUR[128], 64, 128), nets.began_decoder(64, COLOUR[128], 128)
    assert count(autoencoder) + count(generator) == pytest.approx(17.3e6, rel=0.02)
