"""WGAN: the earth mover's distance by weight clipping. Arjovsky et al. 2017, arXiv:1701.07875."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_core.family import Beta1, Beta2, CriticSteps, LearningRate
from gan_core.options import AdaptiveFamily, BatchNormFamily

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Wgan(BatchNormFamily, AdaptiveFamily):
    """Algorithm 1: n_critic steps, each followed by clamping every critic parameter to [-clip, clip].

    The default is RMSProp, because with momentum training became unstable in the paper (section 4). For the same reason
    Adam's betas are (0, 0.9) unless they are given.
    """

    lr: LearningRate = 5e-5
    clip: Annotated[float, Field(ge=1e-6, le=100.0)] = 0.01
    """Bound of every critic weight: after each step weights are clamped to [-clip, clip]."""
    n_critic: CriticSteps = 5
    optimizer: Literal["rmsprop", "sgd", "adam"] = "rmsprop"
    """Optimiser of both players."""
    beta1: Beta1 = 0.0
    beta2: Beta2 = 0.9

    def without_meaning(self) -> dict[str, tuple[str, str]]:
        of_adam = {} if self.optimizer == "adam" else dict.fromkeys(("beta1", "beta2"), ("optimizer", "adam"))
        return super().without_meaning() | of_adam

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam, rmsprop, sgd
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView

        generator = nets.generator(self.net, self.latent, shape, self.width)
        critic = nets.wasserstein_critic(self.net, shape, self.width, batch_norm=self.critic_batch_norm)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            seen = view.of(batch, nets.without_grad(generator, batch.z))
            real_score, fake_score = nets.scores(critic, seen.real, seen.fake, apart=self.critic_batch_norm)
            distance = objectives.wasserstein_estimate(real_score, fake_score)
            loss, scalars = view.regularised(-distance, seen, real_score, fake_score)
            return loss, {"wasserstein_estimate": distance, **scalars}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return -critic(view.fake(generator(batch.z), batch)).mean(), {}

        def after_step() -> None:
            for weight in critic.parameters():
                weight.data.clamp_(-self.clip, self.clip)
            view.after_step()

        optimizer = {
            "rmsprop": rmsprop(self.lr),
            "sgd": sgd(self.lr),
            "adam": adam(self.lr, self.beta1, self.beta2),
        }[self.optimizer]
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, after_step)
