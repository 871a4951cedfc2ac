"""R3GAN's networks, layer by layer, against plain operations."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from gan_core import nets
from tests.gan_core.nets.small_nets import LATENT, count, draw, seeded


def filled(net):
    """The net in float64 with random weights everywhere: a block's last layer starts as zeros."""
    net = net.double()
    for seed, weight in enumerate(net.parameters()):
        weight.data += 0.2 * draw(*weight.shape, seed=seed, dtype=torch.float64)
    return net


def block(take, x, groups):
    out = F.leaky_relu(F.conv2d(x, next(take), next(take)), 0.2)
    out = F.leaky_relu(F.conv2d(out, next(take), next(take), padding=1, groups=groups), 0.2)
    return x + F.conv2d(out, next(take))


def doubled(x):
    """Each pixel twice, then [1, 2, 1] / 4 in both directions, with zeros around the larger image."""
    x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    for dim in (2, 3):
        before, after = x.roll(1, dim), x.roll(-1, dim)
        before.narrow(dim, 0, 1).zero_()
        after.narrow(dim, x.shape[dim] - 1, 1).zero_()
        x = before / 4 + x / 2 + after / 4
    return x


def halved(x):
    """[1, 3, 3, 1] / 8 around each pair of pixels in both directions, with zeros around the image."""
    for dim in (2, 3):
        x = x.movedim(dim, -1)
        x = F.pad(x, (1, 1)).unfold(-1, 4, 2) @ x.new_tensor([1, 3, 3, 1]) / 8
        x = x.movedim(-1, dim)
    return x


def plain_generator(parameters, z, channels, groups):
    take = iter(parameters)
    maps = next(take)
    x = maps * (z @ next(take).T)[:, :, None, None]
    for stage, outputs in enumerate(channels):
        if stage and outputs != channels[stage - 1]:
            x = F.conv2d(x, next(take))
        x = doubled(x) if stage else x
        for _ in range(2):
            x = block(take, x, groups(outputs))
    x = F.conv2d(x, next(take))
    assert next(take, None) is None
    return x


def plain_critic(parameters, x, channels, groups):
    take = iter(parameters)
    x = F.conv2d(x, next(take))
    for stage, inputs in reversed(list(enumerate(channels))):
        for _ in range(2):
            x = block(take, x, groups(inputs))
        x = halved(x) if stage else x
        if stage and channels[stage - 1] != inputs:
            x = F.conv2d(x, next(take))
    x = F.conv2d(x, next(take), groups=channels[0])
    x = x.flatten(1) @ next(take).T
    assert next(take, None) is None
    return x[:, 0]


SIZES = [
    ((3, 8, 8), 8, [8, 8], lambda wide: wide // 8),
    ((1, 28, 28), 16, [16, 16, 16], lambda wide: wide // 8),
    ((3, 32, 64), 3, [3, 3, 3, 3], lambda wide: 1),
    ((3, 64, 64), 8, [16, 16, 16, 16, 8], lambda wide: wide // 8),
]


@pytest.mark.parametrize(("shape", "width", "channels", "groups"), SIZES)
def test_the_networks_are_blocks_and_filtered_resampling(shape, width, channels, groups):
    generator = filled(seeded(nets.r3gan_generator, LATENT, shape, width))
    z = draw(2, LATENT, dtype=torch.float64)
    assert_close(generator(z), plain_generator(list(generator.parameters()), z, channels, groups))
    critic = filled(seeded(nets.r3gan_critic, shape, width))
    x = draw(2, *shape, dtype=torch.float64)
    assert_close(critic(x), plain_critic(list(critic.parameters()), x, channels, groups))


def test_samples_are_clamped_and_images_in_training_are_not():
    generator = filled(seeded(nets.r3gan_generator, LATENT, (1, 8, 8), 8))
    z = 20 * draw(3, LATENT, dtype=torch.float64)
    free = generator(z)
    assert free.abs().max() > 1
    assert_close(generator.eval()(z), free.clamp(-1, 1), rtol=0, atol=0)


def test_a_block_starts_as_the_identity_and_its_layers_by_the_number_of_blocks():
    """Eight blocks at 32x32, so the gain of LeakyReLU is divided by 8^(1/4)."""
    critic = seeded(nets.r3gan_critic, (3, 32, 32), 64)
    first = critic[1]
    x = draw(2, 64, 8, 8)
    assert_close(first(x), x, rtol=0, atol=0)
    gain = math.sqrt(2 / 1.04) * 8**-0.25
    for layer, inputs in ((first[0], 64), (first[2], 16 * 9)):
        assert float(layer.weight.detach().std()) == pytest.approx(gain / math.sqrt(inputs), rel=0.03)
        assert (layer.bias == 0).all()
    assert (first[4].weight == 0).all()
    assert float(critic[0].weight.detach().std()) == pytest.approx(1 / math.sqrt(3), rel=0.15)
    assert float(critic[-2].weight.detach().std()) == pytest.approx(1 / 8, rel=0.25)


def test_the_published_nets_of_cifar10_have_these_numbers_of_parameters():
    """768 channels in four stages of two blocks, 96 groups: weights of 768 x 1536, 1536 x 16 x 9 and 1536 x 768."""
    with torch.device("meta"):
        generator = nets.r3gan_generator(64, (3, 32, 32), 768)
        critic = nets.r3gan_critic((3, 32, 32), 768)
    blocks = 8 * (2 * 768 * 1536 + 1536 * 16 * 9 + 2 * 1536)
    assert count(generator) == blocks + 64 * 768 + 768 * 16 + 768 * 3
    assert count(critic) == blocks + 3 * 768 + 768 * 16 + 768


def test_larger_images_have_fewer_channels_as_published():
    """FFHQ at 256x256: 768 channels up to 32x32, then 384, 192, 96."""
    with torch.device("meta"):
        critic = nets.r3gan_critic((3, 256, 256), 96)
    assert [layer.weight.shape[0] for layer in critic if isinstance(layer, torch.nn.Conv2d)] == [96, 192, 384, 768, 768]
