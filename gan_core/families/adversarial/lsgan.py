"""LSGAN: the game of least squares. Mao et al. 2017, arXiv:1611.04076."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta1, Beta2, CriticSteps, LearningRate
from gan_core.options import AdaptiveFamily, BatchNormFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Lsgan(BatchNormFamily, AdaptiveFamily):
    """The critic's scores are drawn to 1 on real samples and to 0 on fakes, and G draws its own to 1 (equation 9), so
    fakes far on the right side of the critic's boundary still have a gradient."""

    lr: LearningRate = 2e-4
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView

        generator = nets.generator(self.net, self.latent, shape, self.width)
        critic = nets.critic(self.net, shape, self.width, batch_norm=self.critic_batch_norm)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            seen = view.of(batch, nets.without_grad(generator, batch.z))
            real_score, fake_score = nets.scores(critic, seen.real, seen.fake, apart=self.critic_batch_norm)
            loss = objectives.least_squares_critic_loss(real_score, fake_score)
            return view.regularised(loss, seen, real_score - 0.5)

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return objectives.least_squares_generator_loss(critic(view.fake(generator(batch.z), batch))), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, view.after_step)
