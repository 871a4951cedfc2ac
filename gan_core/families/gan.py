"""The original GAN, both generator losses. Goodfellow et al. 2014, arXiv:1406.2661."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gan_core.family import Beta, Family, Latent, LearningRate, Steps, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Gan(Family):
    """Two MLPs play V(D, G), D = sigmoid(critic); G follows the non-saturating or the minimax loss."""

    real_or_fake = "loss/critic"

    lr: LearningRate = 2e-4
    beta1: Beta = 0.5
    beta2: Beta = 0.999
    n_critic: Steps = 1
    loss: Literal["non_saturating", "minimax"] = "non_saturating"
    latent: Latent = 100
    width: Width = 1024
    """Hidden units of the generator."""
    critic_width: Width = 256

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial

        generator = nets.mlp_generator(self.latent, shape, self.width)
        critic = nets.mlp_critic(shape, self.critic_width)
        objective = {
            "non_saturating": objectives.non_saturating_loss,
            "minimax": objectives.minimax_loss,
        }[self.loss]

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = nets.without_grad(generator, batch.z)
            return objectives.discriminator_loss(*nets.scores(critic, batch.real, fake)), {}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return objective(critic(generator(batch.z))), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic)
