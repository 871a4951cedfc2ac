"""BiGAN: an encoder is trained with the generator. Donahue et al. 2017, arXiv:1605.09782. The game of Dumoulin et al.
2017, arXiv:1606.00704, is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta1, Beta2, CriticSteps, Family, Latent, LearningRate, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Bigan(Family):
    """The critic distinguishes pairs (x, E(x)) from pairs (G(z), z). Encoder and generator are one player; its loss is
    the critic's with real and fake swapped (section 3.3). At the optimum each inverts the other."""

    real_or_fake = "loss/critic"

    lr: LearningRate = 2e-4
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1
    latent: Latent = 50
    width: Width = 32
    """Channels of the layer next to the image, doubled at each halving of the side."""

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial

        generator = nets.dcgan_generator(self.latent, shape, self.width)
        encoder = nets.dcgan_encoder(shape, self.latent, self.width)
        critic = nets.joint_critic(shape, self.latent, self.width)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake, code = nets.without_grad(generator, batch.z), nets.without_grad(encoder, batch.real)
            return objectives.discriminator_loss(critic(batch.real, code), critic(fake, batch.z)), {}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            real_score = critic(batch.real, encoder(batch.real))
            fake_score = critic(generator(batch.z), batch.z)
            return objectives.discriminator_loss(fake_score, real_score), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, encoder=encoder)
