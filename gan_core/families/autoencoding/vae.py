"""Variational autoencoder. Kingma & Welling 2014, arXiv:1312.6114."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gan_core.family import Beta1, Beta2, Latent, LearningRate, Weight, Width
from gan_core.options import WidthOfNetFamily

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Vae(WidthOfNetFamily):
    """One player, whose loss is the negative evidence lower bound in nats per image. p(x|z) is normal, with the decoded
    image as its mean and one variance for all pixels: the optimal one for each batch (Rybkin et al. 2021,
    arXiv:2006.13202). Samples are the means."""

    normal_z = True

    lr: LearningRate = 1e-3
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.999
    kl_weight: Weight = 1.0
    """Weight of KL(q(z|x) || N(0, I)), Higgins et al. 2017's beta; other than 1, the loss is no bound."""
    latent: Latent = 20
    net: Literal["conv", "infogan"] = "conv"
    """Encoder and decoder: plain convolutions, or the nets of "Are GANs Created Equal?" (Lucic et al. 2018)."""
    width: Width = 16
    """Channels of the first convolution, doubled by each further one; infogan's has 64."""
    encoder_batch_norm: bool = False
    """Whether infogan's encoder has BatchNorm."""

    def without_meaning(self) -> dict[str, tuple[str, str]]:
        own = {} if self.net == "infogan" else {"encoder_batch_norm": ("net", "infogan")}
        return super().without_meaning() | own

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from torch import nn

        from gan_core import nets, objectives
        from gan_core.nets.latent_codes import Likelihood, Posterior
        from gan_core.optimizers import adam
        from gan_core.recipe import Player, Recipe

        if self.net == "conv":
            encodes = nets.conv_encoder(shape, 2 * self.latent, self.width)
            decodes = nets.conv_decoder(self.latent, shape, self.width)
        else:
            batch_norm = self.encoder_batch_norm
            encodes = nets.infogan_encoder(shape, 2 * self.latent, self.width, batch_norm=batch_norm)
            decodes = nets.infogan_generator(self.latent, shape, self.width, leak=0.0)
        encoder, decoder = Posterior(encodes), Likelihood(decodes)

        def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            mean, log_variance = encoder.moments(batch.real)
            z = mean + (0.5 * log_variance).exp() * batch.z
            decoded = decoder(z)
            variance = decoder.track(objectives.l2_error(batch.real, decoded))
            log_likelihood = objectives.gaussian_log_density(batch.real, decoded, variance).mean()
            kl = objectives.gaussian_kl(mean, log_variance).mean()
            return self.kl_weight * kl - log_likelihood, {"elbo": log_likelihood - kl, "kl": kl}

        net = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        player = Player(net, loss, adam(self.lr, self.beta1, self.beta2), sees_real=True)
        return Recipe({"vae": player}, decoder, encoder=encoder)
