"""BigGAN's networks against formulas written out, torch's own attention, and the counts that the public code prints."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from gan_core import nets
from gan_core.nets.check import without_memory
from gan_core.nets.images.biggan import EMBEDDING, SelfAttention
from gan_core.nets.norm import ConditionalBatchNorm
from gan_core.settings import SettingsError
from tests.gan_core.nets.small_nets import count, draw, seeded, shaken

CLASSES = 3
SIZES = [(8, 8), (16, 16), (28, 28), (32, 32), (24, 40), (96, 16), (64, 64)]


def small_generator(shape, width=2, latent=8):
    return seeded(nets.biggan_generator, latent, shape, CLASSES, width)


def small_critic(shape, width=2):
    return seeded(nets.biggan_critic, shape, CLASSES, width)


def labels(number):
    return torch.arange(number) % CLASSES


# Parts


def test_conditional_batch_norm_is_the_formula():
    layer = seeded(ConditionalBatchNorm, 2, 4).double()
    x, condition = draw(5, 2, 3, 3, dtype=torch.float64), draw(5, 4, dtype=torch.float64)
    gain, offset = condition @ layer.gain.weight.T, condition @ layer.offset.weight.T

    def by_hand(mean, variance):
        rows = []
        for row in range(5):
            part = (x[row] - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
            rows.append((1 + gain[row])[:, None, None] * part + offset[row][:, None, None])
        return torch.stack(rows)

    mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
    assert_close(layer(x, condition), by_hand(mean, variance))
    assert_close(layer.eval()(x, condition), by_hand(0.1 * mean, 0.9 + 0.1 * variance * 45 / 44))


def test_self_attention_is_torchs_attention_over_pooled_places():
    layer = seeded(SelfAttention, 16).double()
    layer.gamma.data.fill_(0.7)
    x = draw(2, 16, 6, 4, dtype=torch.float64)
    query, key, value = (
        part.flatten(2).transpose(1, 2)
        for part in (layer.query(x), F.max_pool2d(layer.key(x), 2), F.max_pool2d(layer.value(x), 2))
    )
    attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (N, HW, C/2)
    assert key.shape == (2, 6, 2)
    wanted = x + 0.7 * layer.out(attended.transpose(1, 2).unflatten(2, (6, 4)))
    assert_close(layer(x), wanted)
    assert (wanted - x).abs().max() > 0.01


def test_orthogonal_regularisation_is_of_products_of_different_rows():
    rows = nn.Linear(2, 3)
    rows.weight.data = torch.tensor([[3.0, 4.0], [6.0, 8.0], [4.0, -3.0]])  # products 50, 0 and 0
    assert nets.orthogonal_regularisation(rows) == 2 * 50**2
    kernels = nn.Conv2d(1, 2, (1, 2))
    kernels.weight.data = torch.tensor([[[[1.0, 2.0]]], [[[3.0, -1.0]]]])  # 3 - 2
    both = nn.Sequential(nn.Embedding(4, 3), rows, nn.BatchNorm2d(2), kernels)
    assert nets.orthogonal_regularisation(both) == 2 * 50**2 + 2 * 1
    assert nets.orthogonal_regularisation(nets.spectrally_normalised(kernels)) == 2


# Networks


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_both_make_and_see_images_of_their_label(size):
    shape, asked = (3, *size), labels(3)
    generator, critic = small_generator(shape), small_critic(shape)
    z = draw(3, 8)
    images = generator.eval()(z, asked).detach()
    assert images.shape == (3, *shape)
    assert 0.01 < images.abs().max() <= 1
    assert (images - generator(z, (asked + 1) % CLASSES)).flatten(1).abs().amax(dim=1).min() > 1e-3
    scores = critic.eval()(images, asked)
    assert scores.shape == (3,)
    assert (scores - critic(images, (asked + 1) % CLASSES)).abs().min() > 1e-4


def test_every_number_of_z_reaches_the_image_and_a_last_chunk_only_the_last_block():
    generator = shaken(small_generator((1, 32, 32), latent=10)).eval()
    assert generator.chunks == [3, 3, 2, 2]
    seen = []
    generator.blocks[-1].register_forward_hook(lambda block, given, out: seen.append((given[0], out)))
    z = draw(1, 10, dtype=torch.float64)
    image = generator(z, labels(1))
    for place in range(10):
        other = generator(z.index_add(1, torch.tensor([place]), torch.ones(1, 1, dtype=torch.float64)), labels(1))
        assert (other - image).abs().max() > 1e-6, place
        before, after = (torch.equal(part, first) for part, first in zip(seen[-1], seen[0], strict=True))
        assert (before, after) == (place >= 8, False)


def test_fewer_numbers_than_chunks_are_refused():
    with pytest.raises(SettingsError, match="family.latent=3 is too small.*4 parts; nearest: family.latent=4"):
        nets.biggan_generator(3, (1, 32, 32), CLASSES, 2)


@pytest.mark.parametrize(
    ("size", "attended"), [((8, 8), (4, 4)), ((32, 32), (16, 16)), ((128, 64), (64, 32)), ((256, 256), (64, 64))]
)
def test_attention_is_at_half_the_size_and_at_most_64(size, attended):
    shape, seen = (3, *size), []
    with without_memory():
        generator, critic = nets.biggan_generator(8, shape, CLASSES, 2), nets.biggan_critic(shape, CLASSES, 2)
        for net in (generator, critic):
            (attention,) = (part for part in net.modules() if isinstance(part, SelfAttention))
            attention.register_forward_hook(lambda layer, given, out: seen.append(tuple(out.shape[2:])))
        critic(generator(torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64)), torch.zeros(2, dtype=torch.int64))
    assert seen == [attended, attended]


def test_weights_start_orthogonal_and_all_but_the_generators_embedding_have_norm_1():
    for net in (small_generator((3, 16, 16), width=8), small_critic((3, 16, 16), width=8)):
        weights = {name: weight.detach() for name, weight in net.named_parameters()}
        for name, weight in weights.items():
            if weight.dim() > 1:
                matrix = weight.flatten(1)
                square = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
                assert_close(square, torch.eye(len(square)), rtol=0, atol=1e-5)
            elif name.endswith("bias") and not name.startswith("image.0"):
                assert (weight == 0).all()
    for net, itself in ((small_generator((3, 16, 16)), "embedding"), (small_critic((3, 16, 16)), None)):
        for weight in net.parameters():
            weight.data.mul_(3)
        for name, part in net.eval().named_modules():
            if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding):
                norm = torch.linalg.matrix_norm(part.weight.detach().flatten(1), 2)
                assert float(norm) == pytest.approx(3 if name == itself else 1, abs=1e-3), name


# Number of parameters


def conv(inputs, outputs, kernel, bias=True):
    return inputs * outputs * kernel**2 + bias * outputs


def attention(channels):
    return 2 * channels * (channels // 8) + 2 * channels * (channels // 2) + 1


def block_of_generator(inputs, outputs, condition):
    convolutions = conv(inputs, outputs, 3, False) + conv(outputs, outputs, 3, False) + conv(inputs, outputs, 1, False)
    return convolutions + 2 * condition * (inputs + outputs)


def test_the_nets_of_128_have_the_number_of_parameters_of_the_public_code():
    """ajbrock/BigGAN-PyTorch prints 70,433,988 and 87,982,370 for ch = 96 and 1,000 classes; the paper's table has
    158.3 million together. There the convolutions of the generator's blocks have biases, three to an output channel."""
    with without_memory():
        generator, critic = (
            nets.biggan_generator(120, (3, 128, 128), 1000, 96),
            nets.biggan_critic((3, 128, 128), 1000, 96),
        )
    biases = 3 * 96 * (16 + 8 + 4 + 2 + 1)
    assert count(generator) == 70_433_988 - biases
    assert count(critic) == 87_982_370


def test_the_nets_of_32_have_the_layers_of_cifar():
    """256 channels everywhere; four chunks of 20 beside the embedding of 128."""
    with without_memory():
        generator, critic = nets.biggan_generator(80, (3, 32, 32), 10, 256), nets.biggan_critic((3, 32, 32), 10, 256)
    assert count(generator) == (
        (20 + 1) * 16 * 256
        + 3 * block_of_generator(256, 256, EMBEDDING + 20)
        + attention(256)
        + 2 * 256
        + conv(256, 3, 3)
        + 10 * EMBEDDING
    )
    assert count(critic) == (
        conv(3, 256, 3)
        + conv(256, 256, 3)
        + conv(3, 256, 1)
        + (2 * conv(256, 256, 3) + conv(256, 256, 1))
        + 2 * 2 * conv(256, 256, 3)
        + attention(256)
        + (256 + 1)
        + 10 * 256
    )
