"""Distributions of latent codes and of images given codes, for autoencoders and VAEs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_core import ranks


class CodeGaussian(nn.Module):
    """Running mean and covariance of codes (N, latent) over global batches, as buffers.

    They start as those of N(0, I), with the weight of a hundredth of a batch.
    """

    MOMENTUM, PRIOR = 0.01, 1e-4

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.first: Tensor
        self.second: Tensor
        self.register_buffer("weight", torch.tensor(self.PRIOR))
        self.register_buffer("first", torch.zeros(latent))
        self.register_buffer("second", self.PRIOR * torch.eye(latent))

    @torch.no_grad()
    def track(self, codes: Tensor) -> None:
        """Updates the moments with this rank's codes (N, latent) of one global batch."""
        codes = codes.detach().to(self.first.dtype)
        with torch.autocast(codes.device.type, enabled=False):
            second = codes.T @ codes / len(codes)
        self.weight.lerp_(torch.ones_like(self.weight), self.MOMENTUM)
        self.first.lerp_(ranks.mean(codes.mean(dim=0)), self.MOMENTUM)
        self.second.lerp_(ranks.mean(second), self.MOMENTUM)

    def codes(self, z: Tensor) -> Tensor:
        """Maps z ~ N(0, I) (N, latent) to codes with the tracked mean and covariance."""
        mean, root, _ = self._roots()
        return mean + z @ root

    def z(self, codes: Tensor) -> Tensor:
        """The inverse of `codes`."""
        mean, _, inverse = self._roots()
        return (codes - mean) @ inverse

    def _roots(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, and the covariance's symmetric square root and its inverse.

        Unlike a Cholesky factor they exist for a singular covariance: each variance is at least a millionth of the
        largest.
        """
        mean = self.first / self.weight
        covariance = self.second / self.weight - mean.outer(mean)
        values, vectors = torch.linalg.eigh(covariance)
        deviations = torch.maximum(values, 1e-6 * values[-1]).sqrt()
        return mean, (vectors * deviations) @ vectors.T, (vectors / deviations) @ vectors.T


class CodeDecoder(nn.Module):
    """An autoencoder's generator, z (N, latent) -> samples: decodes codes of the tracked Gaussian."""

    def __init__(self, gaussian: CodeGaussian, decoder: nn.Module) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.decoder = decoder

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(self.gaussian.codes(z))


class CodeEncoder(nn.Module):
    """Samples -> z (N, latent), which `CodeDecoder` maps back to the samples' codes."""

    def __init__(self, gaussian: CodeGaussian, encoder: nn.Module) -> None:
        super().__init__()
        self.gaussian = gaussian
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.gaussian.z(self.encoder(x).to(self.gaussian.first.dtype))


class Posterior(nn.Module):
    """q(z|x) = N(mean, diag exp(log variance)). `net` maps samples to both: (N, 2 latent).

    Kingma & Welling 2014, arXiv:1312.6114, appendix C.2. The forward pass gives the mean.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.moments(x)[0]

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (N, latent) each."""
        mean, log_variance = self.net(x).to(x.dtype).chunk(2, dim=1)
        return mean, log_variance


class Likelihood(nn.Module):
    """p(x|z) = N(x; decoder(z), variance I). The forward pass gives the mean.

    The variance is the mean squared error, which maximises the likelihood (Rybkin et al. 2021, arXiv:2006.13202,
    section 4.2), as a running mean over global batches. It starts at 1.
    """

    MOMENTUM = 0.1

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.variance: Tensor
        self.register_buffer("variance", torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    @torch.no_grad()
    def track(self, error: Tensor) -> Tensor:
        """Updates the variance with this rank's mean squared error of a global batch. Returns that batch's variance."""
        variance = ranks.mean(error)
        self.variance.lerp_(variance.to(self.variance.dtype), self.MOMENTUM)
        return variance
