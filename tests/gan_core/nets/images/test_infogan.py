"""InfoGAN's networks: those of "Are GANs Created Equal?", by their sizes, and BatchNorm in the critic."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core import nets, objectives
from gan_core.family import build_family
from gan_core.nets.check import check_networks
from gan_core.nets.images.infogan import SignedSigmoid
from gan_core.nets.norm import GlobalBatchNorm
from gan_core.recipe import Batch, Turn
from gan_core.settings import SettingsError
from tests.gan_core.nets.small_nets import count, draw, seeded


def test_width_64_has_the_numbers_of_the_study_at_28x28():
    """1024 units, 128 maps of 7x7, 64 maps of 14x14. A layer before BatchNorm has no bias."""
    maps, convolutions = 128 * 7 * 7, (4 * 4 * 64, 4 * 4 * 64 * 128)
    generator = 64 * 1024 + 1024 * maps + convolutions[1] + (convolutions[0] + 1) + 2 * (1024 + maps + 64)
    assert count(nets.infogan_generator(64, (1, 28, 28), 64)) == generator
    critic = (convolutions[0] + 64) + (convolutions[1] + 128) + (maps * 1024 + 1024) + (1024 + 1)
    assert count(nets.infogan_critic((1, 28, 28), 64, batch_norm=False)) == critic
    normalised = nets.infogan_critic((1, 28, 28), 64, batch_norm=True)
    assert count(normalised) == critic + 128 + 1024, "two gains and offsets, for two biases"
    assert [one.num_features for one in normalised if isinstance(one, GlobalBatchNorm)] == [128, 1024]


def test_the_sigmoid_is_mapped_to_the_images_range():
    x = draw(9, dtype=torch.float64)
    assert_close(SignedSigmoid()(x), 2 * torch.sigmoid(x) - 1)


def test_an_autoencoder_gives_back_images_of_the_same_shape():
    net = seeded(nets.infogan_autoencoder, (3, 12, 20), 5, 4, batch_norm=True)
    assert net.encoder(draw(4, 3, 12, 20)).shape == (4, 5)
    assert net(draw(4, 3, 12, 20)).shape == (4, 3, 12, 20)


def test_batch_norm_of_rows_is_torchs():
    """Of (N, C), as of images of one pixel."""
    ours, theirs, x = GlobalBatchNorm(5).double(), nn.BatchNorm1d(5).double(), draw(7, 5, dtype=torch.float64)
    assert_close(ours(x), theirs(x))
    assert_close(ours.running_var, theirs.running_var)
    with pytest.raises(ValueError, match="3 dimensions"):
        ours(draw(2, 5, 3, dtype=torch.float64))


def test_a_gradient_penalty_passes_through_batch_norm():
    """By torch.func as by autograd, to the second derivative."""
    critic = seeded(nets.infogan_critic, (1, 8, 8), 2, batch_norm=True).double()
    real, fake, mix = draw(6, 1, 8, 8, dtype=torch.float64), draw(6, 1, 8, 8, seed=1, dtype=torch.float64), 0.3
    penalty = objectives.gradient_penalty(critic, real, fake, torch.full((6, 1, 1, 1), mix, dtype=torch.float64))
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    assert_close(penalty, (slope.flatten(1).norm(dim=1) - 1).square().mean())
    weights = [one for one in critic.parameters() if one.dim() > 1]
    found = torch.autograd.grad(penalty, weights)
    wanted = torch.autograd.grad((slope.flatten(1).norm(dim=1) - 1).square().mean(), weights)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("name", ["gan", "wgan", "wgan_gp"])
def test_a_critic_with_batch_norm_scores_real_and_fake_apart(name):
    """The loss of a batch is not that of real and fake images in one pass."""
    own = {"critic_width": 2} if name == "gan" else {}
    family = build_family({"name": name, "net": "infogan", "width": 2, "latent": 4, "critic_batch_norm": True, **own})
    recipe = seeded(family.recipe, (1, 8, 8), 1)
    net, seen = recipe.players["critic"].net, []
    net.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    real, z = draw(6, 1, 8, 8), draw(6, 4)
    batch = Batch(real, torch.zeros(6, dtype=torch.int64), z, torch.rand(6, 1, 1, 1), Turn(0, "critic", 0, 6))
    recipe.players["critic"](batch)
    assert set(seen) == {6}


def test_the_width_is_that_of_the_study_unless_it_is_given():
    assert build_family({"name": "wgan", "net": "infogan"}).width == 64
    assert build_family({"name": "wgan", "net": "infogan", "width": 8}).width == 8
    gan = build_family({"name": "gan", "net": "infogan"})
    assert (gan.width, gan.critic_width) == (64, 64)
    again = build_family({**gan.chosen(), "net": "mlp"})
    assert (again.width, again.critic_width) == (1024, 256), "it did not count as set"
    assert build_family({"name": "gan", "net": "dcgan"}).width == build_family("dcgan").width
    assert build_family({"name": "vae", "net": "infogan"}).width == 64


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"name": "wgan", "critic_batch_norm": True},
            "critic_batch_norm=true has no meaning with family.net=auto; nearest: family.net=infogan",
        ),
        (
            {"name": "vae", "encoder_batch_norm": True},
            "encoder_batch_norm=true has no meaning with family.net=conv; nearest: family.net=infogan",
        ),
        (
            {"name": "wgan", "beta1": 0.5},
            "beta1=0.5 has no meaning with family.optimizer=rmsprop; nearest: family.optimizer=adam",
        ),
        ({"name": "vae", "z": "uniform"}, "z=uniform of vae, which maps N.0, I. to samples; nearest: family.z=normal"),
        ({"name": "gan", "z": "unifrom"}, "unknown family.z 'unifrom'; nearest: uniform"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(settings, said):
    with pytest.raises(SettingsError, match=said):
        build_family(settings)


def test_sides_that_cannot_be_halved_twice_are_refused_with_the_nearest():
    family = build_family({"name": "gan", "net": "infogan", "width": 2, "critic_width": 2})
    with pytest.raises(SettingsError, match="images of 30x26 cannot be halved 2 times; nearest: data.image_size=28"):
        check_networks(family, (1, 30, 26), 10)
