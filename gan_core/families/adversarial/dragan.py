"""DRAGAN: a gradient penalty around real samples. Kodali et al. 2017, arXiv:1705.07215."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta1, Beta2, CriticSteps, LearningRate, PenaltyWeight
from gan_core.options import AdaptiveFamily, BatchNormFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Dragan(BatchNormFamily, AdaptiveFamily):
    """The non-saturating game, with a penalty that keeps the norm of the critic's gradient near 1 close to real
    samples. Each sample has a slope of its own, so the paper's critic has no BatchNorm."""

    real_or_fake = "real_or_fake"

    lr: LearningRate = 2e-4
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    gp_lambda: PenaltyWeight = 10.0
    n_critic: CriticSteps = 1

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives, streams
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView

        generator = nets.generator(self.net, self.latent, shape, self.width)
        critic = nets.critic(self.net, shape, self.width, batch_norm=self.critic_batch_norm)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            seen = view.of(batch, nets.without_grad(generator, batch.z))
            real_score, fake_score = nets.scores(critic, seen.real, seen.fake, apart=self.critic_batch_norm)
            real_or_fake = objectives.discriminator_loss(real_score, fake_score)
            noise = streams.uniform(batch.turn, "around real samples", seen.real)
            penalty = objectives.dragan_penalty(critic, seen.real, noise, batch.mix)
            loss, scalars = view.regularised(real_or_fake + self.gp_lambda * penalty, seen, real_score)
            return loss, {"real_or_fake": real_or_fake, "gradient_penalty": penalty, **scalars}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return objectives.non_saturating_loss(critic(view.fake(generator(batch.z), batch))), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, view.after_step)
