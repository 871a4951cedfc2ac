"""WGAN-GP: the earth mover's distance by a gradient penalty. Gulrajani et al. 2017, arXiv:1704.00028."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta1, Beta2, CriticSteps, LearningRate, PenaltyWeight
from gan_core.options import AdaptiveFamily, BatchNormFamily

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class WganGp(BatchNormFamily, AdaptiveFamily):
    """Algorithm 1: a penalty keeps the norm of the critic's gradient near 1 between real and fake samples. So the
    paper's critic has no BatchNorm, with which a sample's score, and its gradient, depend on the other samples."""

    lr: LearningRate = 1e-4
    beta1: Beta1 = 0.0
    beta2: Beta2 = 0.9
    gp_lambda: PenaltyWeight = 10.0
    n_critic: CriticSteps = 5

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView

        generator = nets.generator(self.net, self.latent, shape, self.width)
        critic = nets.wasserstein_critic(self.net, shape, self.width, batch_norm=self.critic_batch_norm)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            seen = view.of(batch, nets.without_grad(generator, batch.z))
            real_score, fake_score = nets.scores(critic, seen.real, seen.fake, apart=self.critic_batch_norm)
            distance = objectives.wasserstein_estimate(real_score, fake_score)
            penalty = objectives.gradient_penalty(critic, seen.real, seen.fake, batch.mix)
            loss, scalars = view.regularised(-distance + self.gp_lambda * penalty, seen, real_score, fake_score)
            return loss, {"wasserstein_estimate": distance, "gradient_penalty": penalty, **scalars}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return -critic(view.fake(generator(batch.z), batch)).mean(), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, view.after_step)
