"""The networks against hand-written layers, published sizes and the statistics that the papers ask for."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from gan_core import nets, objectives

LATENT = 6
POINTS = (2,)

GENERATORS = {
    "mlp": lambda shape, width: nets.mlp_generator(LATENT, shape, 4 * width),
    "dcgan": partial(nets.dcgan_generator, LATENT),
    "resnet": partial(nets.resnet_generator, LATENT),
    "began": partial(nets.began_decoder, LATENT),
    "autoencoder": partial(nets.conv_decoder, LATENT),
}
CRITICS = {
    "mlp": lambda shape, width: nets.mlp_critic(shape, 4 * width),
    "dcgan": partial(nets.dcgan_critic, batch_norm=False),
    "resnet": nets.resnet_critic,
}
ENCODERS = {
    "dcgan": lambda shape, width: nets.dcgan_encoder(shape, LATENT, width),
    "autoencoder": lambda shape, width: nets.conv_encoder(shape, LATENT, width),
}

every_size = pytest.mark.parametrize("side", nets.SIDES)
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


# Sizes


@every_generator
@every_size
@every_colour
def test_a_generator_makes_images_between_minus_1_and_1(name, side, channels):
    shape = (channels, side, side)
    images = seeded(GENERATORS[name], shape, 2)(20 * draw(3, LATENT)).detach()
    assert images.shape == (3, *shape)
    assert 0.01 < images.abs().max() <= 1
    assert (images[0] - images[1]).abs().max() > 0.01


@every_critic
@every_size
@every_colour
def test_a_critic_scores_images(name, side, channels):
    scores = seeded(CRITICS[name], (channels, side, side), 2)(draw(3, channels, side, side))
    assert scores.shape == (3,)
    assert len(scores.unique()) == 3


@pytest.mark.parametrize("name", ENCODERS)
@every_size
@every_colour
def test_an_encoder_sees_images(name, side, channels):
    codes = seeded(ENCODERS[name], (channels, side, side), 2)(draw(3, channels, side, side))
    assert codes.shape == (3, LATENT)
    assert len(codes.unique(dim=0)) == 3


@every_size
@every_colour
def test_a_critic_of_pairs_scores_pairs(side, channels):
    critic = seeded(nets.joint_critic, (channels, side, side), LATENT, 2)
    x, z = draw(4, channels, side, side), draw(4, LATENT)
    scores = critic(x, z)
    assert scores.shape == (4,)
    assert not torch.equal(critic(x, z.flip(0)), scores)
    assert not torch.equal(critic(x.flip(0), z), scores)


@every_size
@every_colour
def test_began_reconstructs_images(side, channels):
    shape = (channels, side, side)
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
    ("shape", "told"),
    [
        (POINTS, "not that of images"),
        ((3, 24, 24), r"nearest: \(3, 28, 28\)"),
        ((1, 4, 4), r"nearest: \(1, 8, 8\)"),
        ((3, 512, 512), r"nearest: \(3, 256, 256\)"),
        ((3, 32, 64), r"nearest: \(3, 32, 32\)"),
    ],
)
def test_other_shapes_are_refused_with_the_nearest(net, shape, told):
    for build in (partial(nets.generator, net, LATENT), partial(nets.wasserstein_critic, net)):
        with pytest.raises(ValueError, match=told):
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
    generator = seeded(GENERATORS[name], (1, side, side), 16).double().eval()  # wide: no pixel behind dead ReLUs
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
    """A bias before BatchNorm or at the end of a Wasserstein critic would have one."""
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


# The residual nets, layer by layer


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


def plain_critic(parameters, x, halving, plain):
    take = iter(parameters)
    for block in range(halving):
        out = F.conv2d(x if block == 0 else F.relu(x), next(take), next(take), padding=1)
        out = F.conv2d(F.relu(out), next(take), next(take), padding=1)
        x = F.avg_pool2d(out, 2) + F.avg_pool2d(F.conv2d(x, next(take), next(take)), 2)
    for _ in range(plain):
        out = F.conv2d(F.relu(x), next(take), next(take), padding=1)
        x = x + F.conv2d(F.relu(out), next(take), next(take), padding=1)
    x = F.relu(x).mean(dim=(2, 3)) @ next(take).T + next(take)
    assert next(take, None) is None
    return x[:, 0]


def shaken(net):
    """The net in float64 with biases and scales that are no longer zeros and ones."""
    net = net.double()
    for seed, weight in enumerate(net.parameters()):
        if weight.dim() == 1:
            weight.data += 0.3 * draw(*weight.shape, seed=seed, dtype=torch.float64)
    return net


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


@every_critic
def test_second_derivatives_are_those_of_finite_differences(name):
    critic = shaken(seeded(CRITICS[name], (1, 8, 8), 2))
    x = draw(2, 1, 8, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: critic(x).tanh(), (x,))


@every_critic
@pytest.mark.parametrize("side", [8, 28, 64])
def test_the_gradient_penalty_goes_through_to_the_weights(name, side):
    """By `torch.func.grad` and by hand."""
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


# Existing nets keep their bits: a checkpoint's parameters, and what a seed draws


def drawn(layers):
    """The layers' parameters as DCGAN starts them, in order."""
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


# How large they are


def conv(inputs, outputs, kernel, bias=True):
    return inputs * outputs * kernel**2 + bias * outputs


def generator_block(inputs, outputs):
    """mimicry's, whose convolutions have biases that a later BatchNorm removes: ours have none."""
    ours = conv(inputs, outputs, 3, False) + conv(outputs, outputs, 3, False) + conv(inputs, outputs, 1, False)
    return ours + 2 * inputs + 2 * outputs


def critic_block(inputs, outputs, hidden):
    return conv(inputs, hidden, 3) + conv(hidden, outputs, 3) + conv(inputs, outputs, 1)


COLOUR = {side: (3, side, side) for side in nets.SIDES}
COUNTS = {
    # PyTorch's example of DCGAN counts 3,576,704 and 2,765,568; ours has biases where no BatchNorm follows.
    "DCGAN's generator at 64": (nets.dcgan_generator(100, COLOUR[64], 64), 3_576_704 + 3),
    "DCGAN's critic at 64": (nets.dcgan_critic(COLOUR[64], 64, batch_norm=True), 2_765_568 + 64 + 1),
    # By the layers of Gulrajani et al. 2017 (width 128) and of mimicry (generator 256), less 3 biases a block.
    "WGAN-GP's generator at 32": (nets.resnet_generator(128, COLOUR[32], 128), 1_204_483 - 9 * 128),
    "mimicry's generator at 32": (nets.resnet_generator(128, COLOUR[32], 256), 4_276_739 - 9 * 256),
    "WGAN-GP's critic at 32": (nets.resnet_critic(COLOUR[32], 128), 1_053_825),
    "mimicry's generator at 64": (
        nets.resnet_generator(128, COLOUR[64], 64),
        (128 + 1) * 1024 * 16
        + sum(generator_block(2 * half, half) for half in (512, 256, 128, 64))
        + 2 * 64
        + conv(64, 3, 3),
    ),
    "mimicry's critic at 64": (
        nets.resnet_critic(COLOUR[64], 64),
        critic_block(3, 64, 64) + sum(critic_block(half, 2 * half, half) for half in (64, 128, 256, 512)) + 1024 + 1,
    ),
    "mimicry's critic at 128": (
        nets.resnet_critic(COLOUR[128], 64),
        critic_block(3, 64, 64)
        + sum(critic_block(half, 2 * half, half) for half in (64, 128, 256, 512))
        + 2 * conv(1024, 1024, 3)
        + (1024 + 1),
    ),
    "the field notes' encoder at 28": (
        nets.conv_encoder((1, 28, 28), 20, 16),
        conv(1, 16, 5) + conv(16, 32, 5) + (32 * 7 * 7 + 1) * 20,
    ),
    "the field notes' decoder at 28": (
        nets.conv_decoder(20, (1, 28, 28), 16),
        21 * 32 * 7 * 7 + conv(32, 16, 5) + conv(16, 1, 5),
    ),
    "Goodfellow's generator": (
        nets.mlp_generator(100, (1, 28, 28), 1024),
        101 * 1024 + 1025 * 1024 + 1025 * 784,
    ),
    "BiGAN's critic of pairs at 16": (
        nets.joint_critic((1, 16, 16), 50, 64),
        conv(1, 64, 4) + conv(64, 128, 4, False) + 2 * 128 + (128 * 16 + 50 + 1) * 1024 + 1025,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_number_of_parameters_is_the_published_or_hand_computed(name):
    net, wanted = COUNTS[name]
    assert count(net) == wanted


def test_began_has_the_papers_number_of_parameters_but_for_a_fiftieth():
    """Berthelot et al. 2017: 17.3 million for 128x128 and n = 128; how many layers that is, they leave open."""
    autoencoder, generator = nets.began_autoencoder(COLOUR[128], 64, 128), nets.began_decoder(64, COLOUR[128], 128)
    assert count(autoencoder) + count(generator) == pytest.approx(17.3e6, rel=0.02)


# How they start


def weights(net):
    """Name, weight, and kind of each layer's weight with enough numbers to tell its deviation."""
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 3000:
            yield name, layer.weight.detach(), layer


def biases(net):
    return [value for name, value in net.named_parameters() if name.endswith("bias")]


def fans(weight):
    area = math.prod(weight.shape[2:])
    return weight.shape[1] * area, weight.shape[0] * area


@pytest.mark.parametrize(
    "net",
    [
        seeded(nets.dcgan_generator, 100, COLOUR[32], 32),
        seeded(nets.dcgan_critic, COLOUR[32], 32, batch_norm=True),
        seeded(nets.dcgan_encoder, COLOUR[32], 50, 32),
        seeded(nets.joint_critic, COLOUR[32], 50, 32),
    ],
    ids=["generator", "critic", "encoder", "joint critic"],
)
def test_dcgan_starts_with_deviations_of_a_fiftieth(net):
    """Radford et al. 2016: N(0, 0.02); scales N(1, 0.02)."""
    checked = 0
    for name, weight, _ in weights(net):
        assert float(weight.std()) == pytest.approx(0.02, rel=0.04), name
        assert float(weight.abs().max()) > 0.06, "normal, not uniform"
        checked += 1
    assert checked >= 2
    scales = torch.cat([layer.weight.detach() for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)])
    assert float(scales.mean()) == pytest.approx(1, abs=0.01)
    assert float(scales.std()) == pytest.approx(0.02, rel=0.3)
    assert all((bias == 0).all() for bias in biases(net))


@pytest.mark.parametrize(
    "net",
    [seeded(nets.resnet_generator, 128, COLOUR[32], 48), seeded(nets.resnet_critic, COLOUR[32], 48)],
    ids=["generator", "critic"],
)
def test_residual_nets_start_as_gulrajanis(net):
    """Uniform; variance 4 / (fan in + fan out) in a block's 3x3 convolutions, 2 / (fan in + fan out) elsewhere."""
    kinds = set()
    for name, weight, layer in weights(net):
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
    for name, weight, _ in weights(net):
        wanted = math.sqrt(2 / sum(fans(weight)))
        assert float(weight.std()) == pytest.approx(wanted, rel=0.04), name
        assert float(weight.abs().max()) <= math.sqrt(3) * wanted
        checked += 1
    assert checked > 8
    assert all((bias == 0).all() for bias in biases(net))


@pytest.mark.parametrize("side", [16, 64])
def test_signals_keep_their_size_through_the_convolutional_autoencoder(side):
    """He et al. 2015: variance 2 / inputs before ReLU, so that the second moment neither grows nor dies."""
    shape = (3, side, side)
    encoder, decoder = seeded(nets.conv_encoder, shape, 200, 32), seeded(nets.conv_decoder, 200, shape, 32)
    codes = encoder(draw(16, *shape)).detach()
    before_tanh = decoder[:-1](draw(64, 200)).detach()
    assert 0.4 < codes.square().mean() < 1.6
    assert 0.4 < before_tanh.square().mean() < 1.6
    assert all((bias == 0).all() for net in (encoder, decoder) for bias in biases(net))
