"""Log-likelihood of images under a family with a density, and under a model without z.

Densities are those of images in [-1, 1], in nats per image. Images of 256 levels have a density only after
`dequantised`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gan_core import objectives, streams
from gan_core.loop import Game
from gan_core.nets.latent_codes import Likelihood, Posterior

BATCH = 256
"""Images measured at once."""


@torch.no_grad()
def log_likelihood_bound(game: Game, images: Tensor, samples: int = 1) -> Tensor:
    """A lower bound (N,) of log p(x) of images (N, *shape) under the game's averaged networks.

    It is log 1/K sum p(x, z) / q(z|x) over K = `samples` draws from q, which are the same in each call. For K = 1 it
    is an unbiased estimate of the evidence lower bound (Kingma & Welling 2014, equation 2); a larger K is tighter on
    average (Burda et al. 2016, arXiv:1509.00519, theorem 1). Raises ValueError for a family without a density.
    """
    encoder, decoder = game.averages.get("encoder"), game.averages["generator"]
    if not isinstance(encoder, Posterior) or not isinstance(decoder, Likelihood):
        raise ValueError(f"{game.experiment.family.name} has no density; nearest: vae")
    found = []
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        mean, log_variance = encoder.moments(some)
        ratios = []
        for draw in range(samples):
            rows = (start, start + len(some))
            noise = streams.latents(
                game.experiment.seed, f"posterior {draw}", *rows, mean.shape[1], mean.device, mean.dtype
            )
            z = mean + (0.5 * log_variance).exp() * noise
            prior = objectives.gaussian_log_density(z, torch.zeros_like(z), torch.ones_like(z))
            posterior = objectives.gaussian_log_density(z, mean, log_variance.exp())
            ratios.append(objectives.gaussian_log_density(some, decoder(z), decoder.variance) + prior - posterior)
        found.append(torch.stack(ratios).logsumexp(dim=0) - math.log(samples))
    return torch.cat(found)


def independent_gaussian(train: Tensor, images: Tensor) -> Tensor:
    """log p(x) (N,) of images (N, *shape) under independent normal distributions of the pixels.

    They are fitted to the train set (M, *shape). This is the best model with independent normal pixels and no z. The
    result is infinite if a pixel of the train set is constant.
    """
    exact = train.double()
    return objectives.gaussian_log_density(images.double(), exact.mean(dim=0), exact.var(dim=0, unbiased=False))


def dequantised(images: Tensor, seed: int) -> Tensor:
    """Images (N, *shape) in [-1, 1] plus uniform noise of the width of one of 256 levels, drawn from `seed`.

    The mean log-density of the result is a lower bound of the log-probability of the levels (Theis et al. 2016,
    arXiv:1511.01844, section 3.1).
    """
    draw = streams.seeded(images.device, seed, "dequantised")
    noise = torch.rand(images.shape, generator=draw, device=images.device, dtype=images.dtype)
    return images + (noise - 0.5) * (2 / 255)
