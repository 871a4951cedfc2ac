"""Autoencoder and VAE: codes and the bound, against closed forms and other implementations."""

import math

import numpy as np
import pytest
import torch
from torch import distributions, nn
from torch.testing import assert_close

from gan_core import objectives
from gan_core.metrics.elbo import dequantised, independent_gaussian, log_likelihood_bound
from gan_core.nets.latent_codes import CodeGaussian, Likelihood, Posterior
from tests.gan_core.games import GAMES, dataset, new_game, play, small

ENCODING = [name for name in GAMES if new_game(small(name)).averages.keys() >= {"encoder"}]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_they_are_found():
    assert {"autoencoder", "vae", "bigan"} <= set(ENCODING)


@pytest.mark.parametrize("name", ENCODING)
def test_what_is_encoded_can_be_sampled(name):
    game = new_game(small(name, "compute.precision=fp64"))
    play(game, 2)
    images = dataset(game.experiment).images[:6].double()
    z = game.encode(images)
    assert z.shape == (6, 8)
    assert len(z.unique(dim=0)) == 6
    assert game.sample(z).shape == images.shape
    apart = torch.cat([game.encode(images[:1]), game.encode(images[1:])])
    assert_close(apart, z, rtol=1e-9, atol=1e-9)


# The Gaussian of an autoencoder's codes


def tracked(batches: list[torch.Tensor]) -> CodeGaussian:
    gaussian = CodeGaussian(batches[0].shape[1]).double()
    for codes in batches:
        gaussian.track(codes)
    return gaussian


def moments(gaussian: CodeGaussian, latent: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of codes of N(0, I), from the affine map."""
    mean, *moved = gaussian.codes(torch.cat([torch.zeros(1, latent), torch.eye(latent)]).double())
    root = torch.stack(moved) - mean
    return mean, root.T @ root


def test_codes_have_the_weighted_mean_and_covariance_of_all_batches():
    """numpy's moments. Weights are 1 for the last batch, 0.99 for the one before, ..., and a hundredth of the first
    batch's for N(0, I)."""
    batches = [drawn(30, 4, seed=seed) @ drawn(4, 4, seed=99) + seed / 10 for seed in range(40)]
    weights = np.repeat(0.99 ** np.arange(39, -1, -1), 30) / 30
    codes = torch.cat(batches).numpy()
    mean, covariance = moments(tracked(batches), 4)
    wanted = np.average(codes, axis=0, weights=weights)
    assert_close(mean.numpy(), wanted, rtol=2e-3, atol=2e-3)
    assert_close(covariance.numpy(), np.cov(codes.T, aweights=weights, ddof=0), rtol=5e-3, atol=5e-3)


def test_before_the_first_batch_codes_are_z():
    z = drawn(5, 3)
    gaussian = CodeGaussian(3).double()
    assert_close(gaussian.codes(z), z)
    assert_close(gaussian.z(z), z)


def test_z_and_codes_are_each_others_inverse_and_z_is_normal():
    codes = drawn(2000, 5) @ drawn(5, 5, seed=1) + 7
    gaussian = tracked([codes] * 1000)
    z = gaussian.z(codes)
    assert_close(gaussian.codes(z), codes)
    assert_close(z.mean(dim=0), torch.zeros(5).double(), rtol=0, atol=1e-4)
    assert_close(z.T.cov(correction=0), torch.eye(5).double(), rtol=0, atol=1e-4)


def test_codes_that_fill_no_space_are_reached_all_the_same():
    """Fewer codes than dimensions, and one dimension that is constant."""
    codes = drawn(3, 8)
    codes[:, 2] = 4
    gaussian = tracked([codes] * 2000)
    assert_close(gaussian.codes(gaussian.z(codes)), codes, rtol=1e-6, atol=1e-6)
    assert (gaussian.codes(drawn(100, 8))[:, 2] - 4).abs().max() < 0.05


def test_reconstructions_do_not_pass_through_the_gaussian():
    game = new_game(small("autoencoder", "compute.precision=fp64"))
    play(game, 5)
    images = dataset(game.experiment).images[:7].double()
    encoder, decoder = (game.averages[name] for name in ("encoder", "generator"))
    assert_close(game.sample(game.encode(images)), decoder.decoder(encoder.encoder(images)))


def test_an_autoencoders_loss_is_the_mean_square_of_what_is_lost():
    game = new_game(small("autoencoder", "compute.precision=fp64", "family.ema=0", "family.lr=1e-8"))
    real = dataset(game.experiment).images[:16].double()
    player = game.players["autoencoder"]
    batch = batch_of(real, drawn(16, 8))
    again = game.players["autoencoder"].net["decoder"](player.net["encoder"](real))
    assert_close(player(batch)[0], ((again - real) ** 2).sum() / real.numel())


def batch_of(real: torch.Tensor, z: torch.Tensor):
    from gan_core.recipe import Batch, Turn

    return Batch(real, torch.zeros(len(real)).long(), z, torch.zeros(len(real), 1, 1, 1), Turn(0, "it", 0, len(real)))


# The terms of the VAE's loss


def test_densities_and_divergences_are_those_of_torch_distributions():
    x, mean, log_variance = drawn(3, 2, 4, 4), drawn(3, 2, 4, 4, seed=1), drawn(3, 2, 4, 4, seed=2)
    wanted = distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(x).sum(dim=(1, 2, 3))
    assert_close(objectives.gaussian_log_density(x, mean, log_variance.exp()), wanted)
    wanted = distributions.Normal(mean, 0.3).log_prob(x).sum(dim=(1, 2, 3))
    assert_close(objectives.gaussian_log_density(x, mean, torch.tensor(0.09).double()), wanted)
    mean, log_variance = drawn(5, 6), drawn(5, 6, seed=3)
    posterior = distributions.Normal(mean, (0.5 * log_variance).exp())
    wanted = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum(dim=1)
    assert_close(objectives.gaussian_kl(mean, log_variance), wanted)


@pytest.mark.parametrize("kl_weight", [1, 3])
def test_a_vaes_loss_is_minus_the_bound_with_its_kl_weighed(kl_weight):
    """By torch.distributions: z = mean + deviation * the batch's noise, with the optimal variance of the batch."""
    game = new_game(small("vae", f"family.kl_weight={kl_weight}", "compute.precision=fp64"))
    real, noise = dataset(game.experiment).images[:16].double(), drawn(16, 8)
    player = game.players["vae"]
    mean, log_variance = player.net["encoder"].net(real).chunk(2, dim=1)
    posterior = distributions.Normal(mean, (log_variance / 2).exp())
    again = player.net["decoder"].decoder(mean + posterior.scale * noise)
    kl = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum() / 16
    candidates = [((again - real) ** 2).mean() * factor for factor in (0.9, 0.99, 1, 1.01, 1.1)]
    likelihoods = [distributions.Normal(again, each.sqrt()).log_prob(real).sum() / 16 for each in candidates]
    loss, scalars = player(batch_of(real, noise))
    assert_close(loss, kl_weight * kl - likelihoods[2])
    assert likelihoods[2] == max(likelihoods)
    assert_close(scalars["elbo"], likelihoods[2] - kl)
    assert_close(scalars["kl"], kl)


def test_the_variance_follows_the_error():
    likelihood = Likelihood(nn.Identity()).double()
    wanted = 1.0
    for error in (0.5, 0.3, 0.2):
        assert float(likelihood.track(torch.tensor(error).double())) == pytest.approx(error)
        wanted += 0.1 * (error - wanted)
    assert float(likelihood.variance) == pytest.approx(wanted)


# Log-likelihood of images


class Linear(nn.Module):
    """x = W z + mean as images (N, 1, 4, 4)."""

    def __init__(self, weight: torch.Tensor, mean: torch.Tensor):
        super().__init__()
        self.weight, self.mean = weight, mean

    def forward(self, z):
        return (z @ self.weight.T + self.mean).unflatten(1, (1, 4, 4))


class LinearHead(nn.Module):
    """The posterior of `Linear` in closed form, with means shifted by `off`."""

    def __init__(self, decoder: Linear, variance: float, off: float):
        super().__init__()
        scale = (decoder.weight**2).sum(dim=0)  # (latent,), because columns are orthogonal
        self.posterior_variance = 1 / (1 + scale / variance)
        self.inverse = decoder.weight * self.posterior_variance / variance
        self.mean, self.off = decoder.mean, off

    def forward(self, x):
        mean = (x.flatten(1) - self.mean) @ self.inverse + self.off
        return torch.cat([mean, self.posterior_variance.log().expand_as(mean)], dim=1)


def linear_game(off: float):
    """A VAE with a closed form of log p(x): probabilistic principal components (Tipping & Bishop 1999)."""
    game = new_game(small("vae", "compute.precision=fp64"))
    orthogonal, _ = torch.linalg.qr(drawn(16, 8))
    decoder = Linear(orthogonal * torch.arange(1, 9), drawn(16, seed=4))
    variance = 0.4
    game.averages["generator"] = Likelihood(decoder).double()
    game.averages["generator"].variance.fill_(variance)
    game.averages["encoder"] = Posterior(LinearHead(decoder, variance, off))
    covariance = decoder.weight @ decoder.weight.T + variance * torch.eye(16)
    return game, distributions.MultivariateNormal(decoder.mean, covariance)


def test_the_bound_is_exact_where_the_posterior_is():
    game, truth = linear_game(off=0.0)
    images = drawn(300, 1, 4, 4, seed=5) * 3
    wanted = truth.log_prob(images.flatten(1))
    for samples in (1, 3):
        assert_close(log_likelihood_bound(game, images, samples), wanted)


def test_another_posterior_gives_a_bound_that_more_samples_lift():
    """A shift of half a unit in each of 8 directions lowers the bound by KL(q || p(z|x)), which has a closed form."""
    game, truth = linear_game(off=0.1)
    images = drawn(2000, 1, 4, 4, seed=6) * 3
    wanted = truth.log_prob(images.flatten(1)).mean()
    divergence = (0.1**2 / game.averages["encoder"].net.posterior_variance).sum() / 2
    bounds = [log_likelihood_bound(game, images, samples).mean() for samples in (1, 5, 50)]
    assert divergence > 0.5
    assert float(wanted - bounds[0]) == pytest.approx(float(divergence), rel=0.1)
    assert bounds[0] < bounds[1] < bounds[2] < wanted


def test_an_images_bound_is_the_same_with_fewer_images_behind_it():
    game = new_game(small("vae", "compute.precision=fp64"))
    images = dataset(game.experiment).images[:300].double()
    whole = log_likelihood_bound(game, images, 2)
    assert whole.shape == (300,)
    assert_close(log_likelihood_bound(game, images[:259], 2), whole[:259])


def test_families_without_a_density_say_so():
    for name in ("gan", "autoencoder", "bigan"):
        game = new_game(small(name))
        with pytest.raises(ValueError, match=f"{name} has no density; nearest: vae"):
            log_likelihood_bound(game, dataset(game.experiment).images[:2])


def test_pixels_by_themselves_are_as_likely_as_torch_distributions_says():
    train, images = drawn(50, 1, 3, 3), drawn(7, 1, 3, 3, seed=1)
    pixels = distributions.Normal(train.mean(dim=0), train.std(dim=0, correction=0))
    assert_close(independent_gaussian(train, images), pixels.log_prob(images).sum(dim=(1, 2, 3)))


def test_dequantised_images_round_to_the_same_levels():
    levels = torch.arange(256).repeat(40, 1).reshape(40, 1, 16, 16)
    noisy = dequantised(levels / 127.5 - 1, seed=3)
    assert torch.equal(((noisy + 1) * 127.5).round().long(), levels)
    assert float(noisy.sub(levels / 127.5 - 1).var()) == pytest.approx((2 / 255) ** 2 / 12, rel=0.05)
    assert torch.equal(noisy, dequantised(levels / 127.5 - 1, seed=3))
    assert not torch.equal(noisy, dequantised(levels / 127.5 - 1, seed=4))


def test_a_vae_makes_held_out_digits_likelier_than_pixels_by_themselves_do():
    game = new_game(small("vae", "data.held_out=0.2", "family.lr=2e-3", width=16))
    play(game, 300)
    real = dataset(game.experiment)
    train, held_out = dequantised(real.images, seed=0), dequantised(real.held_out, seed=1)
    baseline = independent_gaussian(train, held_out)
    bound = log_likelihood_bound(game, held_out)
    assert bound.mean() > baseline.mean() + 3 * math.sqrt(float((bound - baseline).var()) / len(bound))
