"""Conditional WGAN-GP: Gulrajani et al. 2017, arXiv:1704.00028, with the label given to both nets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta1, Beta2, CriticSteps, LearningRate, PenaltyWeight
from gan_core.options import AdaptiveFamily, NetFamily

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class CwganGp(NetFamily, AdaptiveFamily):
    """The one-hot label is appended to z; the critic is a projection critic (Miyato & Koyama 2018, arXiv:1802.05637).

    The i-th fake of a batch has the label of the i-th real sample, and so has the sample between the two at which the
    gradient is penalised.
    """

    needs_labels = True

    lr: LearningRate = 1e-4
    beta1: Beta1 = 0.0
    beta2: Beta2 = 0.9
    gp_lambda: PenaltyWeight = 10.0
    n_critic: CriticSteps = 5

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives
        from gan_core.nets import heads
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView

        generator = heads.LabelConcatenation(
            nets.generator(self.net, self.latent + classes, shape, self.width), classes
        )
        critic = heads.ProjectionCritic(nets.wasserstein_critic(self.net, shape, self.width), classes)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            with torch.no_grad():
                fake = generator(batch.z, batch.labels).to(batch.real.dtype)
            seen = view.of(batch, fake)
            real_score, fake_score = critic(torch.cat([seen.real, seen.fake]), batch.labels.repeat(2)).chunk(2)
            distance = objectives.wasserstein_estimate(real_score, fake_score)
            penalty = objectives.gradient_penalty(lambda x: critic(x, batch.labels), seen.real, seen.fake, batch.mix)
            loss, scalars = view.regularised(-distance + self.gp_lambda * penalty, seen, real_score, fake_score)
            return loss, {"wasserstein_estimate": distance, "gradient_penalty": penalty, **scalars}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = view.fake(generator(batch.z, batch.labels), batch)
            return -critic(fake, batch.labels).mean(), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            optimizer,
            self.n_critic,
            view.after_step,
            conditional=True,
        )
