"""Losses and penalties against the papers' formulas, written out by hand in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import nn
from torch.testing import assert_close

from gan_core import nets, objectives

score_lists = st.lists(st.floats(-25, 25), min_size=1, max_size=8)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def mean(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


# The game of Goodfellow et al.


@settings(max_examples=50, deadline=None)
@given(score_lists, score_lists)
def test_losses_of_the_original_game(real, fake):
    """The formula uses log sigmoid(-s) for log(1 - sigmoid(s)): 1 - sigmoid(25) has only a few correct digits."""
    log_real = mean(math.log(sigmoid(score)) for score in real)
    log_not_fake = mean(math.log(sigmoid(-score)) for score in fake)
    log_fake = mean(math.log(sigmoid(score)) for score in fake)
    assert_close(objectives.discriminator_loss(tensor(real), tensor(fake)), tensor(-log_real - log_not_fake))
    assert_close(objectives.minimax_loss(tensor(fake)), tensor(log_not_fake))
    assert_close(objectives.non_saturating_loss(tensor(fake)), tensor(-log_fake))


@pytest.mark.parametrize("score", [-2.0, 0.0, 3.0])
def test_slopes_of_the_generators_losses(score):
    """d/ds log(1 - sigmoid(s)) = -sigmoid(s); d/ds -log sigmoid(s) = sigmoid(s) - 1."""
    for loss, slope in [
        (objectives.minimax_loss, -sigmoid(score)),
        (objectives.non_saturating_loss, sigmoid(score) - 1),
    ]:
        fake = tensor([score]).requires_grad_()
        loss(fake).backward()
        assert_close(fake.grad, tensor([slope]))


def test_scores_far_out_give_finite_losses_and_slopes():
    for dtype in (torch.float32, torch.bfloat16):
        score = torch.tensor([-1e4, 1e4], dtype=dtype, requires_grad=True)
        loss = objectives.discriminator_loss(score, score) + objectives.non_saturating_loss(score)
        loss.backward()
        assert loss.isfinite()
        assert score.grad.isfinite().all()


def test_at_the_optimal_discriminator_of_equal_distributions_the_value_is_minus_log_4():
    """Goodfellow et al. 2014, theorem 1: D = 1/2 everywhere, a score of 0."""
    value = -objectives.discriminator_loss(torch.zeros(5), torch.zeros(7))
    assert_close(value, torch.tensor(-math.log(4)))


def test_at_the_optimal_discriminator_the_value_is_the_jensen_shannon_divergence():
    """V(D*, G) = 2 JSD(p, q) - log 4, with D* = p / (p + q): a score of log p / q."""
    p, q = tensor([0.5, 0.25, 0.125, 0.125]), tensor([0.125, 0.125, 0.25, 0.5])
    score = (p / q).log()
    real, fake = (score.repeat_interleave((8 * weights).long()) for weights in (p, q))
    value = -objectives.discriminator_loss(real, fake)
    assert_close(value, tensor(2 * jensenshannon(p, q) ** 2 - math.log(4)))
    for other in (score + 0.1, score * 0.9, torch.zeros(4)):
        real, fake = (other.repeat_interleave((8 * weights).long()) for weights in (p, q))
        assert -objectives.discriminator_loss(real, fake) < value


# Least squares, hinge, relativistic


def test_least_squares_hinge_and_relativistic_losses_are_their_formulas():
    real, fake = [0.5, -2.0, 3.0], [1.5, -0.25, -4.0]
    wanted = {
        "least_squares_critic_loss": 0.5 * mean((s - 1) ** 2 for s in real) + 0.5 * mean(s**2 for s in fake),
        "hinge_critic_loss": (0.5 + 3.0 + 0.0) / 3 + (2.5 + 0.75 + 0.0) / 3,
        "relativistic_loss": -mean(math.log(sigmoid(r - f)) for r, f in zip(real, fake, strict=True)),
    }
    for name, value in wanted.items():
        assert_close(getattr(objectives, name)(tensor(real), tensor(fake)), tensor(value))
    assert_close(objectives.least_squares_generator_loss(tensor(fake)), tensor(0.5 * mean((s - 1) ** 2 for s in fake)))
    assert_close(objectives.hinge_generator_loss(tensor(fake)), tensor(2.75 / 3))


def test_the_least_squares_critic_of_two_densities_is_their_share():
    """Mao et al. 2017, equation 10: D* = (b p + a q) / (p + q)."""
    p, q = tensor([0.5, 0.25, 0.125, 0.125]), tensor([0.125, 0.125, 0.25, 0.5])
    best = p / (p + q)

    def loss(score):
        real, fake = (score.repeat_interleave((8 * weights).long()) for weights in (p, q))
        return objectives.least_squares_critic_loss(real, fake)

    assert torch.autograd.functional.jacobian(loss, best).abs().max() < 1e-12


def test_a_constant_added_to_all_scores_changes_no_relativistic_loss():
    real, fake = torch.randn(2, 6, dtype=torch.float64)
    assert_close(objectives.relativistic_loss(real + 7, fake + 7), objectives.relativistic_loss(real, fake))


# Partly known labels


def test_the_game_of_k_classes_and_fakes_is_a_softmax_of_k_plus_1_logits():
    """Salimans et al. 2016, section 5, with the fake class' logit at 0."""
    real, fake = torch.randn(2, 6, 4, dtype=torch.float64) * 3
    loss = objectives.discriminator_loss(real.logsumexp(dim=1), fake.logsumexp(dim=1))
    p_real, p_fake = (torch.softmax(torch.cat([part, torch.zeros(6, 1)], dim=1), dim=1) for part in (real, fake))
    wanted = -mean(math.log(1 - row[4]) for row in p_real) - mean(math.log(row[4]) for row in p_fake)
    assert_close(loss, tensor(wanted))
    labels = torch.tensor([0, 3, 2, 2, 1, 0])
    given_real = [math.log(p_real[row, label] / (1 - p_real[row, 4])) for row, label in enumerate(labels)]
    assert_close(objectives.known_cross_entropy(real, labels), tensor(-mean(given_real)))


def test_only_known_labels_are_asked():
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([-1, 2, -1, 0, -1])
    loss = objectives.known_cross_entropy(logits, labels)
    wanted = -mean(float(logits[row].log_softmax(0)[labels[row]]) for row in (1, 3))
    assert_close(loss.detach(), tensor(wanted))
    loss.backward()
    assert (logits.grad.abs().sum(dim=1) > 0).tolist() == [False, True, False, True, False]


def test_no_known_label_is_no_loss():
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    loss = objectives.known_cross_entropy(logits, torch.full((5,), -1))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_feature_matching_is_the_squared_distance_of_means():
    real, fake = tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[0.0, 5.0], [0.0, 5.0], [3.0, 5.0]])
    assert_close(objectives.feature_matching_loss(real, fake), tensor((2 - 1) ** 2 + (3 - 5.0) ** 2))


# Wasserstein


def test_the_wasserstein_estimate_is_the_difference_of_means():
    assert_close(objectives.wasserstein_estimate(tensor([1.0, 3.0, 8.0]), tensor([0.5, -0.5])), tensor(4.0))


def test_the_wasserstein_estimate_of_the_best_critic_is_the_earth_movers_distance():
    """Between a set and itself shifted by v the distance is |v|, with f(x) = <x, -v> / |v|."""
    real = torch.randn(9, 3, dtype=torch.float64)
    move = tensor([1.0, -2.0, 2.0])
    critic = lambda x: x @ (-move / move.norm())  # noqa: E731
    assert_close(objectives.wasserstein_estimate(critic(real), critic(real + move)), tensor(3.0))


# The gradient penalty


def by_hand(critic, real, fake, mix):
    """Gulrajani et al. 2017, algorithm 1, line 7, by double backward and a square root."""
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((slope.square().sum(dim=list(range(1, slope.dim()))).sqrt() - 1) ** 2).mean()


def samples(shape, count=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, count, *shape, generator=draw, dtype=torch.float64)
    mix = torch.rand(count, *[1] * len(shape), generator=draw, dtype=torch.float64)
    return real, fake, mix


CRITICS = {
    "points": ((3,), lambda: nets.mlp_critic((3,), 8)),
    "images": ((1, 8, 8), lambda: nets.dcgan_critic((1, 8, 8), 4, batch_norm=False)),
    "two levels": ((2, 16, 16), lambda: nets.dcgan_critic((2, 16, 16), 3, batch_norm=False)),
    "smooth": ((5,), lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1), nn.Flatten(0))),
}


@pytest.mark.parametrize("kind", CRITICS)
def test_the_penalty_and_its_second_order_gradients_are_those_of_double_backward(kind):
    shape, build = CRITICS[kind]
    torch.manual_seed(0)
    critic = build().double()
    for weight in critic.parameters():
        weight.data.normal_(0, 0.5)
    real, fake, mix = samples(shape)
    weights = list(critic.parameters())
    wanted, found = (penalty(critic, real, fake, mix) for penalty in (by_hand, objectives.gradient_penalty))
    assert_close(found, wanted, rtol=1e-12, atol=0)
    assert found > 0.01
    wanted_grads, found_grads = (
        torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True) for value in (wanted, found)
    )
    assert sum(float(grad.norm()) for grad in found_grads) > 0.01
    for found_grad, wanted_grad in zip(found_grads, wanted_grads, strict=True):
        assert_close(found_grad, wanted_grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("weight", [[3.0, 4.0], [0.6, 0.8], [1e-3, 0.0]])
def test_the_penalty_of_a_linear_critic_is_its_closed_form(weight):
    """(|w| - 1)^2, with the gradient 2 (|w| - 1) w / |w|, for any samples."""
    w = tensor(weight).requires_grad_()
    penalty = objectives.gradient_penalty(lambda x: x @ w + 7, *samples((2,)))
    length = math.hypot(*weight)
    assert_close(penalty, tensor((length - 1) ** 2))
    (grad,) = torch.autograd.grad(penalty, w)
    assert_close(grad, 2 * (length - 1) * tensor(weight) / length)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_slope_is_taken_between_fake_and_real(share):
    """f(x) = |x|^2 / 2 has the gradient x, so the penalty shows at which point it was taken."""
    real, fake = tensor([[3.0, 0.0]]), tensor([[0.0, 4.0]])
    penalty = objectives.gradient_penalty(lambda x: x.square().sum(1) / 2, real, fake, tensor([[share]]))
    assert_close(penalty, tensor((math.hypot(3 * share, 4 * (1 - share)) - 1) ** 2))


def test_the_norm_is_over_a_whole_sample_and_the_mean_over_samples():
    real, fake, mix = samples((2, 3, 3))
    scale = torch.arange(6, dtype=torch.float64)  # sample i's score is i times its sum: a slope of i at 18 pixels
    penalty = objectives.gradient_penalty(lambda x: scale * x.sum(dim=(1, 2, 3)), real, fake, mix)
    assert_close(penalty, tensor(mean((i * math.sqrt(18) - 1) ** 2 for i in range(6))))


def test_no_slope_is_a_penalty_of_1_and_no_nan():
    critic = nets.mlp_critic((3,), 8).double()
    for weight in critic.parameters():
        weight.data.zero_()
    penalty = objectives.gradient_penalty(critic, *samples((3,)))
    assert_close(penalty, tensor(1.0))
    grads = torch.autograd.grad(penalty, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    assert all(grad.isfinite().all() for grad in grads)


def test_the_penalty_does_not_reach_the_samples():
    real, fake, mix = (value.requires_grad_() for value in samples((3,)))
    critic = nets.mlp_critic((3,), 8).double()
    objectives.gradient_penalty(critic, real, fake, mix).backward()
    assert real.grad is None
    assert fake.grad is None


# Other penalties on the slope


class Quadratic(nn.Module):
    """x -> x^T A x / 2 + b^T x of each sample. Its slope at x is (A + A^T) x / 2 + b."""

    def __init__(self, size: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.curve = nn.Parameter(torch.randn(size, size, generator=draw, dtype=torch.float64))
        self.slope = nn.Parameter(torch.randn(size, generator=draw, dtype=torch.float64))

    def forward(self, x):
        x = x.flatten(1)
        return 0.5 * ((x @ self.curve) * x).sum(dim=1) + x @ self.slope

    def slopes(self, x):
        return 0.5 * x.flatten(1) @ (self.curve + self.curve.T) + self.slope


def same_slopes(critic, penalty, by_closed_form) -> None:
    """The values, and the gradients of the weights, of a penalty and of its closed form."""
    found, wanted = penalty(), by_closed_form()
    assert_close(found, wanted)
    grads, others = (torch.autograd.grad(value, list(critic.parameters())) for value in (found, wanted))
    for grad, other in zip(grads, others, strict=True):
        assert_close(grad, other)


def test_the_zero_centred_penalty_is_the_mean_squared_slope():
    critic = Quadratic(12)
    x = samples((3, 2, 2))[0].requires_grad_()
    same_slopes(
        critic,
        lambda: objectives.zero_centred_penalty(critic(x), x),
        lambda: critic.slopes(x.detach()).square().sum(dim=1).mean(),
    )


def test_the_weights_gradient_of_the_zero_centred_penalty_is_that_of_finite_differences():
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    x = samples((3,))[0].requires_grad_()
    weight = critic[0].weight

    def penalty(values):
        with torch.no_grad():
            weight.copy_(values)
        return float(objectives.zero_centred_penalty(critic(x), x))

    objectives.zero_centred_penalty(critic(x), x).backward()
    before, found = weight.detach().clone(), weight.grad[2, 1]
    step = torch.zeros_like(before)
    step[2, 1] = 1e-5
    assert_close(found, tensor((penalty(before + step) - penalty(before - step)) / 2e-5), rtol=1e-7, atol=1e-9)


def test_dragans_penalty_keeps_the_slope_near_one_around_real_samples():
    critic, (real, _, mix) = Quadratic(12), samples((3, 2, 2))
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    around = real + (1 - mix) * 0.5 * real.std(correction=0) * noise
    same_slopes(
        critic,
        lambda: objectives.dragan_penalty(critic, real, noise, mix),
        lambda: (critic.slopes(around).norm(dim=1) - 1).square().mean(),
    )
