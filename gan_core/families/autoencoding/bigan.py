"""BiGAN: an encoder is trained with the generator. Donahue et al. 2017, arXiv:1605.09782. The game of Dumoulin et al.
2017, arXiv:1606.00704, is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta1, Beta2, CriticSteps, Latent, LearningRate, Width
from gan_core.options import AdaptiveFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Bigan(AdaptiveFamily):
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
        from gan_core.techniques.critic_view import CriticView

        generator = nets.dcgan_generator(self.latent, shape, self.width)
        encoder = nets.dcgan_encoder(shape, self.latent, self.width)
        critic = nets.joint_critic(shape, self.latent, self.width)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            fake, code = nets.without_grad(generator, batch.z), nets.without_grad(encoder, batch.real)
            seen = view.of(batch, fake)
            real_score, fake_score = critic(seen.real, code), critic(seen.fake, batch.z)
            return view.regularised(objectives.discriminator_loss(real_score, fake_score), seen, real_score)

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            seen = view.of(batch, generator(batch.z))
            real_score, fake_score = critic(seen.real, encoder(batch.real)), critic(seen.fake, batch.z)
            return objectives.discriminator_loss(fake_score, real_score), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            optimizer,
            self.n_critic,
            view.after_step,
            encoder=encoder,
        )
