"""Losses and penalties as functions of tensors. Scores are raw critic outputs (logits), shape (N,)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core import ranks
from gan_core.recipe import Turn


def discriminator_loss(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))), D = sigmoid(score). Goodfellow et al. 2014, equation 1."""
    return F.softplus(-real_score).mean() + F.softplus(fake_score).mean()


def minimax_loss(fake_score: Tensor) -> Tensor:
    """E log(1 - D(G(z))), minimised by G. Goodfellow et al. 2014, equation 1."""
    return -F.softplus(fake_score).mean()


def non_saturating_loss(fake_score: Tensor) -> Tensor:
    """-E log D(G(z)), minimised by G. Goodfellow et al. 2014, section 3."""
    return F.softplus(-fake_score).mean()


def least_squares_critic_loss(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2. Mao et al. 2017, arXiv:1611.04076, equation 9 (a=0, b=1)."""
    return 0.5 * ((real_score - 1).square().mean() + fake_score.square().mean())


def least_squares_generator_loss(fake_score: Tensor) -> Tensor:
    """1/2 E (D(G(z)) - 1)^2, minimised by G. Mao et al. 2017, arXiv:1611.04076, equation 9 (c=1)."""
    return 0.5 * (fake_score - 1).square().mean()


def hinge_critic_loss(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))). Miyato et al. 2018, arXiv:1802.05957, equation 16."""
    return F.relu(1 - real_score).mean() + F.relu(1 + fake_score).mean()


def hinge_generator_loss(fake_score: Tensor) -> Tensor:
    """-E D(G(z)), minimised by G. Miyato et al. 2018, arXiv:1802.05957, equation 17."""
    return -fake_score.mean()


def relativistic_loss(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """E softplus(D(G(z)) - D(x)) over pairs of a real and a generated sample, minimised by the critic; G minimises it
    with real and fake exchanged. Jolicoeur-Martineau 2019, arXiv:1807.00734, equations 7 and 8 (f(t) = -log(1 + e^-t)
    in Huang et al. 2024, arXiv:2501.05441, equation 2)."""
    return F.softplus(fake_score - real_score).mean()


def wasserstein_estimate(real_score: Tensor, fake_score: Tensor) -> Tensor:
    """E f(x) - E f(G(z)): at the optimal f the earth mover's distance times the Lipschitz constant of f.

    Arjovsky et al. 2017, equation 3; the critic minimises its negative.
    """
    return real_score.mean() - fake_score.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E (||grad f(x̂)||_2 - 1)^2 with x̂ = mix * real + (1 - mix) * fake, the norm over a whole sample.

    `mix` has one weight per sample, shape (N, 1, ...). Gulrajani et al. 2017, equation 3. At zero, the gradient of
    `vector_norm` is zero, where that of sqrt(sum of squares) would be NaN.
    """
    between = torch.lerp(fake, real, mix).detach()  # (N, *shape)
    slope = torch.func.grad(lambda x: critic(x).sum())(between)  # (N, *shape)
    return (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()


def path_lengths(images: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """Lengths (N,) of the gradient by the styles (N, places, latent) of <images, noise> over the root of the number of
    pixels, where noise (N, *shape) is N(0, 1); a root mean square over places. `images` were computed of `styles`.

    Karras et al. 2020, arXiv:1912.04958, equation 4: |J_w^T y|. As in the authors' code each place has its own w.
    """
    noise = noise / math.sqrt(math.prod(images.shape[2:]))
    (slope,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    return torch.linalg.vector_norm(slope.flatten(1).to(noise.dtype), dim=1) / math.sqrt(styles.shape[1])


def zero_centred_penalty(score: Tensor, x: Tensor) -> Tensor:
    """E ||grad D(x)||_2^2, of scores (N,) that were computed of x (N, *shape), which requires a gradient.

    At real samples it is R1, at fakes R2; either counts gamma / 2 times. Mescheder et al. 2018, arXiv:1801.04406,
    equations 9 and 10.
    """
    (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)  # (N, *shape)
    return slope.square().flatten(1).sum(dim=1).mean()


def dragan_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, noise: Tensor, mix: Tensor) -> Tensor:
    """E (||grad D(x̂)||_2 - 1)^2 with x̂ between real samples x and x + 0.5 std(x) u, std over all values of the *global*
    batch.

    `noise` is u, in the shape of `real`, uniform on [0, 1); `mix` has one weight per sample, shape (N, 1, ...). Kodali
    et al. 2017, arXiv:1705.07215, section 2.5; the noise is that of their code and of "Are GANs Created Equal?".
    """
    deviation = ranks.mean((real - ranks.mean(real.mean())).square().mean()).sqrt()
    return gradient_penalty(critic, real, real + 0.5 * deviation * noise, mix)


def every(turns: int, turn: Turn, penalty: Callable[[], Tensor]) -> Tensor:
    """`turns` times the penalty in every `turns`-th turn of the player, from the first, and 0 in the others, where it
    is not computed. Lazy regularisation: Karras et al. 2020, arXiv:1912.04958, appendix B."""
    return torch.zeros(()) if turn.number % turns else turns * penalty()


def l1_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """E |x - D(x)|, a mean over pixels, of samples and their reconstructions (N, *shape). Berthelot et al. 2017,
    section 3.1."""
    return (x - reconstruction).abs().mean()


def l2_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """E (x - D(x))^2, a mean over pixels, of samples and their reconstructions (N, *shape)."""
    return (x - reconstruction).square().mean()


def gaussian_log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log N(x; mean, variance) of each sample in nats, (N,), summed over its values; x (N, *shape)."""
    return -0.5 * ((x - mean).square() / variance + (2 * math.pi * variance).log()).flatten(1).sum(dim=1)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) of each row in nats, (N,). Kingma & Welling 2014, appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


def known_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (N, classes) over the known labels (N,), those that are not -1; 0 if none is known.

    Its mean over ranks is the average over all known labels of the *global* batch.
    """
    total = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    known = ranks.mean((labels >= 0).sum().to(total.dtype))  # the mean number per rank
    return total / known.clamp(min=1 / ranks.world_size())


def feature_matching_loss(real: Tensor, fake: Tensor) -> Tensor:
    """||E f(x) - E f(G(z))||_2^2 of features (N, count), means over the *global* batch. Salimans et al. 2016,
    section 3.1."""
    return ranks.differentiable_mean(real.mean(dim=0) - fake.mean(dim=0)).square().sum()
