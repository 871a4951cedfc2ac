"""Spectral normalisation: the largest singular value of each weight is 1, also after a checkpoint."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_core import nets, objectives

SHAPE = (3, 16, 16)


def critic(net: str) -> nn.Module:
    torch.manual_seed(0)
    return nets.spectrally_normalised(nets.wasserstein_critic(net, SHAPE, 4)).double()


def largest(net: nn.Module) -> list[float]:
    """The largest singular value of each weight, by the whole decomposition."""
    layers = [one for one in net.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    return [float(torch.linalg.matrix_norm(one.weight.detach().flatten(1), 2)) for one in layers]


@pytest.mark.parametrize("net", ["mlp", "dcgan", "resnet"])
def test_each_weights_largest_singular_value_is_1(net):
    normalised = critic(net)
    for _ in range(300):
        normalised(torch.zeros(1, *SHAPE, dtype=torch.float64))
    normalised.eval()
    assert largest(normalised) == pytest.approx([1.0] * len(largest(normalised)), abs=1e-4)
    assert len(largest(normalised)) >= 3


@pytest.mark.parametrize("net", ["dcgan", "resnet"])
def test_the_gradient_penalty_is_differentiated_through_it(net):
    """Against finite differences of the penalty, along one direction of all weights."""
    normalised = critic(net).eval()
    draw = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(4, *SHAPE, generator=draw, dtype=torch.float64) for _ in range(2))
    mix = torch.rand(4, 1, 1, 1, generator=draw, dtype=torch.float64)
    weights = {name: one.detach() for name, one in normalised.named_parameters() if one.dim() > 1}
    towards = {name: torch.randn(one.shape, generator=draw, dtype=torch.float64) for name, one in weights.items()}

    def penalty(step: torch.Tensor) -> torch.Tensor:
        moved = {name: one + step * towards[name] for name, one in weights.items()}
        score = lambda x: torch.func.functional_call(normalised, moved, (x,))  # noqa: E731
        return objectives.gradient_penalty(score, real, fake, mix)

    here = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(penalty(here), here)
    with torch.no_grad():
        wanted = (penalty(here + 1e-6) - penalty(here - 1e-6)) / 2e-6
    assert abs(float(found)) > 1e-6
    assert_close(found, wanted, rtol=1e-4, atol=1e-9)


def test_the_vectors_of_the_power_iteration_are_saved():
    one, other = critic("dcgan"), critic("dcgan")
    x = torch.ones(2, *SHAPE, dtype=torch.float64)
    for _ in range(3):
        one(x)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


def test_an_averaged_vector_which_is_shorter_makes_the_same_weights():
    """The mean of unit vectors that turn is shorter than 1. So a running average has such vectors."""
    one, other = critic("resnet").eval(), critic("resnet").eval()
    shortened = [vector.mul_(0.7) for name, vector in other.named_buffers() if name.endswith(".v")]
    assert len(shortened) == len(largest(other))
    assert largest(other) == pytest.approx(largest(one), rel=1e-12)
