"""The residual networks, layer by layer, against plain operations."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from gan_core import nets
from tests.gan_core.nets.small_nets import LATENT, draw, seeded, shaken


def plain_generator(parameters, z, side, blocks):
    """The resnet of Gulrajani et al. 2017 in plain operations, with a net's parameters in their order."""
    take = iter(parameters)

    def norm(x):
        weight, bias = next(take), next(take)
        mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
        return (x - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]

    def doubled(x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    weight, bias = next(take), next(take)
    x = (z @ weight.T + bias).reshape(len(z), -1, side, side)
    for _ in range(blocks):
        out = F.conv2d(doubled(F.relu(norm(x))), next(take), padding=1)
        out = F.conv2d(F.relu(norm(out)), next(take), padding=1)
        x = out + F.conv2d(doubled(x), next(take))
    x = F.conv2d(F.relu(norm(x)), next(take), next(take), padding=1).tanh()
    assert next(take, None) is None
    return x


def plain_critic(parameters, x, halving, plain, pool=torch.mean):
    take = iter(parameters)
    for block in range(halving):
        out = F.conv2d(x if block == 0 else F.relu(x), next(take), next(take), padding=1)
        out = F.conv2d(F.relu(out), next(take), next(take), padding=1)
        x = F.avg_pool2d(out, 2) + F.avg_pool2d(F.conv2d(x, next(take), next(take)), 2)
    for _ in range(plain):
        out = F.conv2d(F.relu(x), next(take), next(take), padding=1)
        x = x + F.conv2d(F.relu(out), next(take), next(take), padding=1)
    x = pool(F.relu(x), dim=(2, 3)) @ next(take).T + next(take)
    assert next(take, None) is None
    return x[:, 0]


@pytest.mark.parametrize(("side", "smallest", "blocks"), [(8, 4, 1), (16, 4, 2), (28, 7, 2), (32, 4, 3), (64, 4, 4)])
def test_the_residual_generator_is_upsampling_and_convolutions(side, smallest, blocks):
    generator = shaken(seeded(nets.resnet_generator, LATENT, (3, side, side), 2))
    z = draw(3, LATENT, dtype=torch.float64)
    wanted = plain_generator(list(generator.parameters()), z, smallest, blocks)
    assert_close(generator(z), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("side", "halving", "plain"),
    [(8, 1, 3), (16, 1, 3), (28, 2, 2), (32, 2, 2), (64, 5, 0), (128, 5, 1), (256, 6, 1)],
)
def test_the_residual_critic_is_convolutions_and_mean_pooling(side, halving, plain):
    critic = shaken(seeded(nets.resnet_critic, (3, side, side), 2))
    x = draw(2, 3, side, side, dtype=torch.float64)
    wanted = plain_critic(list(critic.parameters()), x, halving, plain)
    assert_close(critic(x), wanted, rtol=1e-9, atol=1e-11)


def test_sngans_residual_critic_sums_over_the_image():
    critic = shaken(seeded(nets.spectral_critic, "resnet", (3, 16, 16), 2))
    x = draw(2, 3, 16, 16, dtype=torch.float64)
    wanted = plain_critic(list(critic.parameters()), x, 1, 3, torch.sum)
    assert_close(critic(x), wanted, rtol=1e-9, atol=1e-11)
