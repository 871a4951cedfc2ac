"""Labels, class logits and minibatch discrimination, against the formulas written out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from gan_core import nets
from gan_core.nets import heads

CLASSES, SHAPE = 3, (2, 8, 8)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def images(count: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, dtype=torch.float64)


def dcgan_critic(**options):
    critic = nets.dcgan_critic(SHAPE, 4, batch_norm=False, **options).double()
    for weight in critic.parameters():
        weight.data.normal_(0, 0.3)
    return critic


def test_a_label_stands_one_hot_beside_the_input():
    net = torch.nn.Linear(4 + CLASSES, 2).double()
    x, labels = torch.randn(3, 2, 2, dtype=torch.float64), torch.tensor([2, 0, 2])
    found = heads.LabelConcatenation(net, CLASSES)(x, labels)
    for row, label in enumerate(labels):
        asked = x[row].flatten() @ net.weight[:, :4].T + net.weight[:, 4 + label] + net.bias
        assert_close(found[row], asked)


@pytest.mark.parametrize("last_bias", [False, True])
def test_a_projected_score_is_the_critics_and_the_labels_share_of_its_features(last_bias):
    critic = dcgan_critic(last_bias=last_bias)
    projected = heads.ProjectionCritic(critic, CLASSES).double()
    x, labels = images(5), torch.tensor([0, 2, 1, 1, 0])
    found = projected(x, labels)
    assert found.shape == (5,)
    for row, label in enumerate(labels):
        features = critic[:-2](x[row : row + 1])[0]
        assert_close(found[row], critic(x[row : row + 1])[0] + features @ projected.embedding.weight[label])
    assert (found - critic(x)).abs().min() > 1e-4


def test_classes_are_a_linear_layer_on_the_critics_features():
    critic = dcgan_critic()
    classes = heads.ClassLogits(critic, CLASSES).double()
    x = images(4)
    assert_close(classes(x), critic[:-2](x) @ classes.logits.weight.T + classes.logits.bias)
    assert_close(classes.features(x), critic[:-2](x))


def test_a_critic_of_classes_starts_undecided_between_real_and_fake():
    """D = Z / (Z + 1) is near 1/2."""
    classes = heads.ClassLogits(nets.dcgan_critic(SHAPE, 4, batch_norm=False), 10)
    score = classes(images(50).float()).logsumexp(dim=1)
    assert_close(score.sigmoid(), torch.full((50,), 0.5), rtol=0, atol=0.02)
    assert math.isclose(float(classes.logits.bias.detach().exp().sum()), 1, rel_tol=1e-5)


# Minibatch discrimination


def test_closeness_is_the_papers_sum_over_the_batch():
    """Salimans et al. 2016, section 3.2, element by element."""
    layer = heads.MinibatchDiscrimination(4, 2).double()
    features = torch.randn(5, 4, dtype=torch.float64)
    found = layer(features)
    assert found.shape == (5, 4 + 2)
    assert torch.equal(found[:, :4], features)
    tensor = layer.project.weight.T.reshape(4, 2, 5)  # A, B, C
    rows = torch.einsum("na,abc->nbc", features, tensor)
    for i in range(5):
        for b in range(2):
            wanted = sum(math.exp(-float((rows[i, b] - rows[j, b]).detach().abs().sum())) for j in range(5))
            assert_close(found[i, 4 + b].detach(), torch.tensor(wanted, dtype=torch.float64))


def test_equal_samples_are_as_close_as_can_be():
    layer = heads.MinibatchDiscrimination(4, 3)
    apart = layer(100 * torch.randn(6, 4))[:, 4:]
    alike = layer(torch.randn(1, 4).expand(6, 4))[:, 4:]
    assert_close(alike, torch.full((6, 3), 6.0))
    assert (apart < 2).all()


@pytest.mark.parametrize("last_bias", [False, True])
def test_a_comparing_critic_sees_the_others(last_bias):
    critic = dcgan_critic(last_bias=last_bias)
    comparing = heads.with_minibatch_discrimination(critic, 3).double()
    x = images(5)
    assert comparing(x).shape == (5,)
    assert (comparing(x)[:3] - comparing(x[:3])).abs().min() > 1e-6
    assert (comparing[-2].bias is not None) == last_bias
