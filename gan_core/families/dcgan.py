"""DCGAN: the non-saturating game of all-convolutional nets. Radford et al. 2016, arXiv:1511.06434."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta, Family, LearningRate, Steps, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Dcgan(Family):
    """Strided convolutions, BatchNorm in both nets (over real and fake images apart), Adam(2e-4, 0.5)."""

    real_or_fake = "loss/critic"

    lr: LearningRate = 2e-4
    beta1: Beta = 0.5
    beta2: Beta = 0.999
    n_critic: Steps = 1
    width: Width = 32
    """Channels beside the image; doubled at each halving."""

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial

        generator = nets.dcgan_generator(self.latent, shape, self.width)
        critic = nets.dcgan_critic(shape, self.width, batch_norm=True)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = nets.without_grad(generator, batch.z)
            return objectives.discriminator_loss(critic(batch.real), critic(fake)), {}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return objectives.non_saturating_loss(critic(generator(batch.z))), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic)
