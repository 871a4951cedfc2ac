"""StyleGAN2's networks against plain formulas: samples one by one, dense resampling, finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from gan_core import nets, objectives, ranks
from gan_core.nets import resampling
from gan_core.nets.images import stylegan2_layers as layers
from gan_core.recipe import Turn
from gan_core.settings import SettingsError
from tests.gan_core.nets.small_nets import count, draw, seeded

LATENT = 6
TURN = Turn(0, "generator", 3, 4)


def doubles(*shape, seed=0):
    return draw(*shape, seed=seed, dtype=torch.float64)


def shaken(net):
    """The net in float64, with noise on all weights, so that none is 0 or 1."""
    net = net.double()
    for seed, weight in enumerate(net.parameters()):
        weight.data += 0.3 * doubles(1, *weight.shape, seed=seed)[0]
    return net


def dense_filter(image, up=1, down=1):
    """One channel (H, W), zeros put between its pixels, convolved with [1, 3, 3, 1]^2, every `down`-th kept."""
    spread = torch.zeros(up * image.shape[0], up * image.shape[1], dtype=torch.float64)
    spread[::up, ::up] = image
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    whole = F.conv2d(spread[None], (up**2 * taps[:, None] * taps / 64)[None, None], padding=3)[0]
    first = 1 if up == 2 else 2  # of the whole convolution, which has three places more
    stop = (first + len(spread), first + spread.shape[1]) if up == 2 else (-2, -2)
    return whole[first : stop[0], first : stop[1]][::down, ::down]


@pytest.mark.parametrize("size", [(4, 4), (6, 10)])
def test_the_filter_is_1_3_3_1_along_both_sides(size):
    x = doubles(2, 3, *size)
    for found, options in ((resampling.upsampled(x), {"up": 2}), (resampling.downsampled(x), {"down": 2})):
        wanted = torch.stack([torch.stack([dense_filter(one, **options) for one in each]) for each in x])
        assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_upsampling_is_bilinear_away_from_the_edge():
    x = doubles(2, 3, 6, 5)
    wanted = F.interpolate(x, scale_factor=2, mode="bilinear")
    assert_close(resampling.upsampled(x)[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], rtol=1e-12, atol=1e-12)


# Modulated convolutions


def each_by_itself(layer, x, w):
    """Karras et al. 2020, equations 1 and 3, with weights of each sample's own, and dense resampling."""
    found = []
    for one, style in zip(x, w @ layer.style.weight.T / math.sqrt(LATENT) + layer.style.bias, strict=True):
        weight = layer.weight * style[None, :, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        else:
            weight = weight / math.sqrt(layer.weight[0].numel())
        if layer.up:  # filtered, then convolved: wider by the filter, so that the convolution sees no other edge
            wide = F.pad(one, (2, 2, 2, 2))
            up = torch.stack([dense_filter(channel, up=2) for channel in wide])
            # A transposed convolution turns the kernel around.
            found.append(F.conv2d(up[None], weight.flip(2, 3), padding=1)[0, :, 4:-4, 4:-4])
        else:
            found.append(F.conv2d(one[None], weight, padding=weight.shape[2] // 2)[0])
    return torch.stack(found)


@pytest.mark.parametrize("options", [{}, {"up": True}, {"size": 1, "demodulate": False}], ids=str)
def test_a_modulated_convolution_has_weights_of_each_samples_own(options):
    layer = shaken(seeded(layers.ModulatedConv, 5, 3, LATENT, **options))
    x, w = doubles(4, 5, 4, 6).requires_grad_(), doubles(4, LATENT, seed=1).requires_grad_()
    found, wanted = layer(x, w), each_by_itself(layer, x, w)
    assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    towards, given = doubles(*found.shape, seed=2), (x, w, *layer.parameters())
    for one, other in zip(
        *(torch.autograd.grad((each * towards).sum(), given) for each in (found, wanted)), strict=True
    ):
        assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_demodulation_gives_unit_variance_whatever_the_style():
    layer = seeded(layers.ModulatedConv, 64, 16, LATENT).double()
    x, w = doubles(4, 64, 32, 32), 3 * doubles(4, LATENT, seed=1)
    deviation = layer(x, w)[..., 1:-1, 1:-1].std(dim=(2, 3))  # (N, outputs), away from the padding
    assert_close(deviation, torch.ones_like(deviation), rtol=0, atol=0.12)
    plain = seeded(layers.ModulatedConv, 64, 16, LATENT, demodulate=False).double()
    assert plain(x, w)[..., 1:-1, 1:-1].std(dim=(2, 3)).std() > 0.15


@pytest.mark.parametrize(
    "build", [lambda: layers.ModulatedConv(2, 2, 3, up=True), lambda: layers.ModulatedConv(2, 2, 3)]
)
def test_a_modulated_convolution_has_second_derivatives(build):
    layer = shaken(seeded(build))
    x, w = doubles(2, 2, 3, 3).requires_grad_(), doubles(2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(layer, (x, w))


# Equalised learning rate


def test_equalised_layers_keep_the_variance():
    x = draw(2000, 64)
    assert seeded(layers.EqualLinear, 64, 64, rate=0.01)(x).std().item() == pytest.approx(1, abs=0.1)
    assert seeded(layers.EqualLinear, 64, 64, active=True)(x).square().mean().item() == pytest.approx(1, abs=0.1)
    images = draw(8, 32, 16, 16)
    made = seeded(layers.EqualConv, 32, 32, 3)(images)[..., 1:-1, 1:-1]
    assert made.square().mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_the_factor_of_the_rate_slows_a_layer_and_changes_no_output(rate):
    """A step of Adam's first kind, the rate times a sign, moves the output in proportion to the factor."""
    layer = seeded(layers.EqualLinear, 8, 4, rate=rate)
    plain = seeded(layers.EqualLinear, 8, 4)
    x = draw(5, 8)
    before = layer(x)
    assert_close(before, plain(x))
    layer.weight.data += 1e-3
    layer.bias.data += 1e-3
    moved = rate * 1e-3 * (x.sum(dim=1, keepdim=True) / math.sqrt(8) + 1).expand(-1, 4)
    assert_close(layer(x) - before, moved, rtol=0.02, atol=1e-6)


# The deviation within a group


def plain_deviation(x, group):
    """Karras et al. 2018, section 3, group by group."""
    return torch.cat(
        [
            (((each - each.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean()).expand(group)
            for each in x.split(group)
        ]
    )


@pytest.mark.parametrize(("group", "used"), [(4, 4), (8, 8), (32, 8), (3, 2)])
def test_a_sample_is_told_how_much_its_group_differs(group, used):
    x = doubles(8, 3, 2, 2)
    found = layers.MinibatchDeviation(group)(x)
    assert torch.equal(found[:, :3], x)
    assert_close(found[:, 3], plain_deviation(x, used)[:, None, None].expand(-1, 2, 2))


@pytest.mark.parametrize("group", [2, 8])
def test_two_halves_have_the_deviation_of_the_whole(group, monkeypatch):
    x = doubles(8, 3, 2, 2)
    whole = layers.MinibatchDeviation(group)(x)
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    monkeypatch.setattr(ranks, "gathered", lambda mine: x)
    for rank, mine in enumerate(x.chunk(2)):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        assert_close(layers.MinibatchDeviation(group)(mine), whole.chunk(2)[rank])


# The generator


def small_generator(**options):
    return shaken(seeded(nets.StyleGenerator, LATENT, (2, 16, 16), 2, **options))


def test_path_lengths_are_those_of_finite_differences():
    """|J^T y| of equation 4, with a difference of the images for each number of each place's style."""
    generator = small_generator()
    styles = doubles(3, generator.places, LATENT).requires_grad_()
    noise = doubles(3, 2, 16, 16, seed=1)
    found = objectives.path_lengths(generator.images(styles, TURN), styles, noise)
    step, slopes = 1e-6, torch.zeros(3, generator.places, LATENT, dtype=torch.float64)
    with torch.no_grad():
        for place in range(generator.places):
            for number in range(LATENT):
                ahead, behind = styles.clone(), styles.clone()
                ahead[:, place, number] += step
                behind[:, place, number] -= step
                moved = generator.images(ahead, TURN) - generator.images(behind, TURN)
                slopes[:, place, number] = (moved * noise).sum(dim=(1, 2, 3)) / (2 * step) / 16
    assert_close(found, slopes.square().sum(dim=2).mean(dim=1).sqrt(), rtol=1e-7, atol=1e-9)


def test_the_gradient_of_path_length_is_that_of_finite_differences():
    generator = small_generator()
    noise, z = doubles(4, 2, 16, 16, seed=1), doubles(4, LATENT, seed=2)

    def penalty():
        styles = generator.styles(z, TURN, 0.0)
        return (objectives.path_lengths(generator.images(styles, TURN), styles, noise) - 0.3).square().mean()

    weights = [generator.mapping.layers[0].weight, generator.layers[1].convolution.weight, generator.layers[0].strength]
    grads = torch.autograd.grad(penalty(), weights)
    for weight, grad in zip(weights, grads, strict=True):
        place, step = weight.data.view(-1)[:1], 1e-5
        place += step
        ahead = penalty().item()
        place -= 2 * step
        behind = penalty().item()
        place += step
        assert grad.flatten()[0].item() == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


def test_truncation_draws_w_to_its_mean():
    generator = small_generator()
    generator.w_mean.copy_(doubles(LATENT, seed=4))
    z = doubles(5, LATENT, seed=5)
    assert_close(generator(z, 1.0), generator(z))
    mean = generator.w_mean.expand(1, generator.places, -1)
    assert_close(generator(z, 0.0), generator.images(mean, None).clamp(-1, 1).expand(5, -1, -1, -1))
    half = generator.w_mean + 0.5 * (generator.mapping(z) - generator.w_mean)
    styles = half[:, None].expand(-1, generator.places, -1)
    assert_close(generator(z, 0.5), generator.images(styles, None).clamp(-1, 1))


def test_w_does_not_depend_on_the_length_of_z():
    mapping = small_generator(mapping_layers=3).mapping
    z = doubles(4, LATENT)
    assert_close(mapping(7 * z), mapping(z), rtol=1e-6, atol=1e-6)
    assert len(mapping.layers) == 3


def test_mixed_samples_have_a_second_style_from_some_place_on():
    generator = small_generator()
    turn, z = TURN._replace(size=400), doubles(400, LATENT)
    alone = generator.styles(z, turn, 0.0)
    assert torch.equal(alone, generator.mapping(z)[:, None].expand(-1, generator.places, -1))
    mixed = generator.styles(z, turn, 0.6)
    changed = (mixed - alone).abs().amax(dim=2) > 1e-9  # (N, places)
    assert not changed[:, 0].any()
    assert (changed[:, 1:] >= changed[:, :-1]).all()  # from a place to the last
    assert changed[:, -1].double().mean().item() == pytest.approx(0.6, abs=0.08)
    cuts = generator.places - changed.sum(dim=1)
    assert set(cuts[changed[:, -1]].tolist()) == set(range(1, generator.places))
    for row in changed[:, -1].nonzero().flatten().tolist()[:5]:
        others = mixed[row][changed[row]]
        assert_close(others, others[:1].expand_as(others))
        assert (others[0] - alone[:, 0]).abs().amax(dim=1).min() > 1e-9  # of no other sample of the batch


def test_noise_is_of_the_turn_and_there_is_none_in_samples():
    generator = small_generator()
    z = doubles(4, LATENT)
    styles = generator.styles(z, TURN, 0.0)
    one, same, other = (generator.images(styles, turn) for turn in (TURN, TURN, TURN._replace(number=4)))
    assert torch.equal(one, same)
    assert (one - other).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(generator.train()(z), generator.eval()(z))
    for layer in generator.layers:
        layer.strength.data.zero_()
    assert_close(generator.images(styles, TURN), generator.images(styles, None))


def test_the_networks_have_the_published_weights():
    """24.8 and 24.0 million: the published code's summary of its networks for FFHQ at 256x256 (channel_base 16384)."""
    with torch.device("meta"):
        generator = nets.StyleGenerator(512, (3, 256, 256), 64, mapping_layers=8)
        critic = nets.stylegan2_critic((3, 256, 256), 64)
    assert count(generator) == 24_767_458
    assert count(critic) == 24_001_089


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (28, 28), (48, 48), (64, 128), (256, 256)])
@pytest.mark.parametrize("residual", [True, False])
def test_images_of_many_sizes_are_made_and_scored(size, residual):
    shape = (3, *size)
    images = seeded(nets.StyleGenerator, LATENT, shape, 2, 4)(draw(4, LATENT))
    assert images.shape == (4, *shape)
    assert 0.01 < images.abs().max() <= 1
    scores = seeded(nets.stylegan2_critic, shape, 2, 4, residual=residual)(images)
    assert scores.shape == (4,)
    assert len(scores.unique()) == 4


def test_other_sizes_are_refused_with_the_nearest():
    for build in (nets.stylegan2_critic, lambda shape, width: nets.StyleGenerator(LATENT, shape, width)):
        with pytest.raises(SettingsError, match="nearest: data.image_size=48$"):
            build((3, 50, 50), 2)
