"""Convolutional autoencoder, Hinton & Salakhutdinov 2006. Samples decode codes that are drawn from a Gaussian, as in
Ghosh et al. 2020, arXiv:1903.12436, section 4.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta1, Beta2, Family, Latent, LearningRate, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Autoencoder(Family):
    """One player, whose loss is E (x - D(E(x)))^2. To sample, z ~ N(0, I) is mapped to a code with the mean and
    covariance of the train set's codes. To encode, the inverse map turns a code into z."""

    normal_z = True

    lr: LearningRate = 1e-3
    beta1: Beta1 = 0.9
    beta2: Beta2 = 0.999
    latent: Latent = 20
    width: Width = 16
    """Channels of the first convolution, doubled by each further one."""

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from torch import nn

        from gan_core import nets, objectives
        from gan_core.nets.latent_codes import CodeDecoder, CodeEncoder, CodeGaussian
        from gan_core.optimizers import adam
        from gan_core.recipe import Player, Recipe

        encoder = nets.conv_encoder(shape, self.latent, self.width)
        decoder = nets.conv_decoder(self.latent, shape, self.width)
        gaussian = CodeGaussian(self.latent)

        def loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            codes = encoder(batch.real)
            gaussian.track(codes)
            return objectives.l2_error(batch.real, decoder(codes)), {}

        net = nn.ModuleDict({"encoder": encoder, "decoder": decoder, "gaussian": gaussian})
        player = Player(net, loss, adam(self.lr, self.beta1, self.beta2), sees_real=True)
        return Recipe({"autoencoder": player}, CodeDecoder(gaussian, decoder), encoder=CodeEncoder(gaussian, encoder))
