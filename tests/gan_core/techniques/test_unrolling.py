"""The unrolled critic against the same steps by `torch.optim.Adam`, and its gradients against finite differences."""

import copy

import pytest
import torch
from torch.testing import assert_close

from gan_core import nets, objectives
from gan_core.nets import heads
from gan_core.optimizers import adam
from gan_core.techniques.unrolling import unrolled

DRAW = torch.Generator().manual_seed(0)
REAL, FAKE, MORE = torch.randn(3, 6, 2, generator=DRAW, dtype=torch.float64) + torch.tensor([1.0, 0.0])


def played(steps: int, kernels: int = 0) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A critic after some training steps."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        critic = nets.mlp_critic((2,), 5).double()
        critic = heads.with_minibatch_discrimination(critic, kernels).double() if kernels else critic
    optimizer = adam(0.02, 0.5, 0.9)(critic.parameters())
    step(critic, optimizer, FAKE, steps)
    return critic, optimizer


def loss(score, fake):
    return objectives.discriminator_loss(score(REAL), score(fake))


def step(critic, optimizer, fake, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        loss(critic, fake).backward()
        optimizer.step()


def ahead_by_torch(critic, optimizer, fake, steps: int) -> torch.nn.Module:
    """A copy of the critic, `steps` ahead."""
    later = copy.deepcopy(critic)
    its = adam(0.02, 0.5, 0.9)(later.parameters())
    its.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(later, its, fake.detach(), steps)
    return later


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("kernels", [0, 3])
def test_the_critic_ahead_is_the_one_that_adam_arrives_at(steps, kernels):
    critic, optimizer = played(3, kernels)
    ahead = unrolled(critic, optimizer, lambda score: loss(score, FAKE), steps)
    wanted = ahead_by_torch(critic, optimizer, FAKE, steps)(MORE)
    assert_close(ahead(MORE), wanted, rtol=1e-10, atol=1e-12)
    assert (wanted - critic(MORE)).abs().max() > 0.01


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kernels", [0, 3])
def test_gradients_flow_through_the_steps_to_the_fakes(steps, kernels):
    critic, optimizer = played(3, kernels)

    def value(fake, score):
        return objectives.non_saturating_loss(score(fake))

    fake = FAKE.clone().requires_grad_()
    found = value(fake, unrolled(critic, optimizer, lambda score: loss(score, fake), steps))
    (slope,) = torch.autograd.grad(found, fake)
    (without,) = torch.autograd.grad(value(fake, ahead_by_torch(critic, optimizer, fake, steps)), fake)
    for row in range(len(FAKE)):
        for column in range(2):
            move = torch.zeros_like(FAKE)
            move[row, column] = 1e-5
            there, back = (
                value(moved, ahead_by_torch(critic, optimizer, moved, steps)).detach()
                for moved in (FAKE + move, FAKE - move)
            )
            assert_close(slope[row, column], (there - back) / 2e-5, rtol=1e-4, atol=1e-7)
    assert (slope - without).norm() > 0.01 * slope.norm()


def test_nothing_of_the_critic_or_its_optimiser_is_changed():
    critic, optimizer = played(3)
    before = copy.deepcopy((critic.state_dict(), optimizer.state_dict()["state"]))
    unrolled(critic, optimizer, lambda score: loss(score, FAKE), 4)(MORE).sum().backward()
    after = critic.state_dict(), optimizer.state_dict()["state"]
    for one, other in zip(before, after, strict=True):
        assert one.keys() == other.keys()
    assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    for index, slots in before[1].items():
        assert all(torch.equal(value, after[1][index][key]) for key, value in slots.items())


def test_a_weight_without_gradient_stays_and_gives_no_nan():
    critic, optimizer = played(1)
    with torch.no_grad():
        for weight in critic.parameters():
            weight.zero_()
    for slots in optimizer.state.values():
        for value in slots.values():
            value.zero_()
    fake = FAKE.clone().requires_grad_()
    ahead = unrolled(critic, optimizer, lambda score: loss(score, fake), 3)
    (slope,) = torch.autograd.grad(objectives.non_saturating_loss(ahead(fake)), fake)
    assert slope.isfinite().all()
