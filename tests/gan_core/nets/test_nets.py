"""The networks: shapes, what an output depends on, where BatchNorm is, gradients, precision."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core import nets, objectives
from tests.gan_core.nets.small_nets import (
    CRITICS,
    ENCODERS,
    GENERATORS,
    LATENT,
    count,
    draw,
    every_colour,
    every_critic,
    every_generator,
    every_size,
    seeded,
    shaken,
)

POINTS = (2,)


# Sizes


@every_generator
@every_size
@every_colour
def test_a_generator_makes_images_between_minus_1_and_1(name, size, channels):
    shape = (channels, *size)
    images = seeded(GENERATORS[name], shape, 2)(20 * draw(3, LATENT)).detach()
    assert images.shape == (3, *shape)
    assert 0.01 < images.abs().max() <= 1
    assert (images[0] - images[1]).abs().max() > 0.01


@every_critic
@every_size
@every_colour
def test_a_critic_scores_images(name, size, channels):
    scores = seeded(CRITICS[name], (channels, *size), 2)(draw(3, channels, *size))
    assert scores.shape == (3,)
    assert len(scores.unique()) == 3


@pytest.mark.parametrize("name", ENCODERS)
@every_size
@every_colour
def test_an_encoder_sees_images(name, size, channels):
    codes = seeded(ENCODERS[name], (channels, *size), 2)(draw(3, channels, *size))
    assert codes.shape == (3, LATENT)
    assert len(codes.unique(dim=0)) == 3


@every_size
@every_colour
def test_a_critic_of_pairs_scores_pairs(size, channels):
    critic = seeded(nets.joint_critic, (channels, *size), LATENT, 2)
    x, z = draw(4, channels, *size), draw(4, LATENT)
    scores = critic(x, z)
    assert scores.shape == (4,)
    assert not torch.equal(critic(x, z.flip(0)), scores)
    assert not torch.equal(critic(x.flip(0), z), scores)


@every_size
@every_colour
def test_began_reconstructs_images(size, channels):
    shape = (channels, *size)
    autoencoder = seeded(nets.began_autoencoder, shape, hidden=5, width=2)
    x = draw(2, *shape)
    assert autoencoder(x).shape == x.shape
    assert autoencoder.encoder(x).shape == (2, 5)
    assert_close(autoencoder(x), autoencoder.decoder(autoencoder.encoder(x)))
    generator = nets.began_decoder(5, shape, 2)
    assert [value.shape for value in generator.parameters()] == [
        value.shape for value in autoencoder.decoder.parameters()
    ]


@pytest.mark.parametrize("net", ["auto", "mlp"])
def test_points_are_played_by_an_mlp(net):
    points = nets.generator(net, LATENT, POINTS, 2)(draw(3, LATENT))
    assert points.shape == (3, 2)
    assert nets.wasserstein_critic(net, POINTS, 2)(points).shape == (3,)


@pytest.mark.parametrize("net", ["dcgan", "resnet"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (POINTS, "not that of images"),
        ((3, 50, 50), r"nearest: data.image_size=48$"),
        ((1, 4, 4), r"nearest: data.image_size=8$"),
        ((3, 600, 600), r"nearest: data.image_size=512$"),
        ((3, 33, 64), r"nearest: data.image_size=32x64$"),
        ((3, 64, 100), r"nearest: data.image_size=64x96$"),
    ],
)
def test_other_shapes_are_refused_with_the_nearest(net, shape, message):
    for build in (partial(nets.generator, net, LATENT), partial(nets.wasserstein_critic, net)):
        with pytest.raises(ValueError, match=message):
            build(shape, 2)


def test_nets_are_found_by_name():
    shape = (1, 16, 16)
    wanted = {
        "auto": (nets.dcgan_generator(LATENT, shape, 3), nets.dcgan_critic(shape, 3, batch_norm=False)),
        "mlp": (nets.mlp_generator(LATENT, shape, 48), nets.mlp_critic(shape, 48)),
        "dcgan": (nets.dcgan_generator(LATENT, shape, 3), nets.dcgan_critic(shape, 3, batch_norm=False)),
        "resnet": (nets.resnet_generator(LATENT, shape, 3), nets.resnet_critic(shape, 3)),
    }
    for net, (generator, critic) in wanted.items():
        assert str(nets.generator(net, LATENT, shape, 3)) == str(generator)
        found = nets.wasserstein_critic(net, shape, 3)
        assert count(found) == count(critic) - 1, "a Wasserstein critic has no last bias"


# Structure


@every_critic
@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_a_score_depends_on_every_pixel_of_its_image_and_on_no_other_image(name, side):
    critic = seeded(CRITICS[name], (3, side, side), 4).double()
    x = draw(3, 3, side, side, dtype=torch.float64).requires_grad_()
    scores = critic(x)
    (slope,) = torch.autograd.grad(scores[1], x)
    assert (slope[1] != 0).all()
    assert (slope[[0, 2]] == 0).all()
    assert_close(critic(x[1:2]), scores[1:2], rtol=1e-12, atol=1e-14)


def test_with_batch_norm_a_score_depends_on_the_other_images():
    critic = seeded(nets.dcgan_critic, (1, 16, 16), 4, batch_norm=True)
    x = draw(3, 1, 16, 16)
    assert (critic(x)[:2] - critic(x[:2])).abs().max() > 1e-6


@every_generator
@pytest.mark.parametrize("side", [8, 28, 64])
def test_every_latent_number_moves_every_pixel(name, side):
    generator = seeded(GENERATORS[name], (1, side, side), 16).double().eval()  # wide, so that some ReLUs are alive
    z = draw(1, LATENT, dtype=torch.float64)
    images = generator(torch.cat([z, z + torch.eye(LATENT)]))
    assert ((images[1:] - images[:1]) != 0).all()


def norms(net):
    return [type(module) for module in net.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]


def test_batch_norm_is_over_the_global_batch_and_only_where_the_papers_have_it():
    shape = (3, 32, 32)
    resnet = nets.resnet_generator(LATENT, shape, 2)
    assert norms(resnet) == [nets.GlobalBatchNorm] * 7  # two in each of three blocks and one after them
    assert norms(nets.dcgan_generator(LATENT, shape, 2)) == [nets.GlobalBatchNorm] * 3
    assert norms(nets.dcgan_encoder(shape, LATENT, 2)) == [nets.GlobalBatchNorm] * 2  # not on the input
    assert norms(nets.joint_critic(shape, LATENT, 2)) == [nets.GlobalBatchNorm] * 2
    for net in (
        nets.resnet_critic(shape, 2),
        nets.dcgan_critic(shape, 2, batch_norm=False),
        nets.began_autoencoder(shape, 4, 2),
        nets.began_decoder(LATENT, shape, 2),
        nets.conv_encoder(shape, LATENT, 2),
        nets.conv_decoder(LATENT, shape, 2),
    ):
        assert norms(net) == []


@pytest.mark.parametrize("net", ["mlp", "dcgan", "resnet"])
@pytest.mark.parametrize("side", [16, 64])
def test_no_gradient_of_a_wasserstein_game_is_rounding_noise(net, side):
    """The gradient of a bias before BatchNorm or at the end of a Wasserstein critic would be rounding noise."""
    shape = (1, side, side)
    generator, critic = (
        seeded(build, shape=shape, width=2).double()
        for build in (partial(nets.generator, net, LATENT), partial(nets.wasserstein_critic, net))
    )
    real, fake = draw(8, *shape, dtype=torch.float64), generator(draw(8, LATENT, dtype=torch.float64))
    distance = objectives.wasserstein_estimate(critic(real), critic(fake))
    for player in (generator, critic):
        weights = dict(player.named_parameters())
        grads = torch.autograd.grad(distance, list(weights.values()), retain_graph=True)
        largest = max(float(grad.abs().max()) for grad in grads)
        noise = [name for name, grad in zip(weights, grads, strict=True) if grad.abs().max() < 1e-10 * largest]
        assert noise == []


# Gradients and precision


@every_critic
def test_second_derivatives_are_those_of_finite_differences(name):
    critic = shaken(seeded(CRITICS[name], (1, 8, 8), 2))
    x = draw(2, 1, 8, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: critic(x).tanh(), (x,))


@every_critic
@pytest.mark.parametrize("side", [8, 28, 64])
def test_the_gradient_penalty_goes_through_to_the_weights(name, side):
    """`torch.func.grad` against a double backward pass."""
    critic = shaken(seeded(CRITICS[name], (1, side, side), 2))
    real, fake = draw(2, 4, 1, side, side, dtype=torch.float64)
    found = objectives.gradient_penalty(critic, real, fake, torch.full((4, 1, 1, 1), 0.25, dtype=torch.float64))
    between = (0.25 * real + 0.75 * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    wanted = ((slope.square().sum(dim=(1, 2, 3)).sqrt() - 1) ** 2).mean()
    weights = [weight for weight in critic.parameters() if weight.dim() > 1]
    for one, other in zip(torch.autograd.grad(found, weights), torch.autograd.grad(wanted, weights), strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-12)
        assert one.abs().max() > 0


@pytest.mark.parametrize("name", [*GENERATORS, *(f"{name} critic" for name in CRITICS)])
def test_bf16_is_float32_less_digits_and_its_gradients_are_float32(name):
    shape = (1, 16, 16)
    if name in GENERATORS:
        net, given = seeded(GENERATORS[name], shape, 8), draw(16, LATENT)
    else:
        net, given = seeded(CRITICS[name.removesuffix(" critic")], shape, 8), draw(16, *shape)
    wanted = net(given).detach()
    with torch.autocast("cpu", torch.bfloat16):
        found = net(given)
    found.float().square().mean().backward()
    assert (found.float() - wanted).norm() < 0.05 * wanted.norm()
    assert {weight.grad.dtype for weight in net.parameters()} == {torch.float32}
    assert all(weight.grad.isfinite().all() for weight in net.parameters())


def test_a_critic_of_pairs_scores_latent_numbers_of_either_precision():
    critic = seeded(nets.joint_critic, (1, 16, 16), LATENT, 8)
    x, z = draw(16, 1, 16, 16), draw(16, LATENT)
    with torch.autocast("cpu", torch.bfloat16):
        found = critic(x, z), critic(x, z.bfloat16())
    for scores in found:
        assert (scores.float() - critic(x, z)).norm() < 0.1 * critic(x, z).norm()
