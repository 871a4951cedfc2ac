"""The original GAN, with both generator losses. Goodfellow et al. 2014, arXiv:1406.2661."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_core.family import (
    Beta1,
    Beta2,
    CriticLearningRate,
    CriticSteps,
    InstanceNoiseFamily,
    Latent,
    LearningRate,
    MinibatchFeatures,
    Width,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape
    from gan_core.techniques.unrolling import Scorer


class Gan(InstanceNoiseFamily):
    """Two MLPs play V(D, G) with D = sigmoid(critic). G minimises the non-saturating or the minimax loss."""

    real_or_fake = "loss/critic"

    lr: LearningRate = 2e-4
    critic_lr: CriticLearningRate = 0.0
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1
    loss: Literal["non_saturating", "minimax"] = "non_saturating"
    """Loss of the generator (section 3)."""
    latent: Latent = 100
    width: Width = 1024
    """Hidden units of the generator."""
    critic_width: Width = 256
    """Hidden units of the critic."""
    minibatch_features: MinibatchFeatures = 0
    unrolled: Annotated[int, Field(ge=0, le=100)] = 0
    """Critic steps that the generator's loss is unrolled over (Metz et al. 2017, arXiv:1611.02163); 0: none."""

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.nets import heads
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.noise import instance_noise
        from gan_core.techniques.unrolling import unrolled

        generator = nets.mlp_generator(self.latent, shape, self.width)
        critic = nets.mlp_critic(shape, self.critic_width)
        if self.minibatch_features:
            critic = heads.with_minibatch_discrimination(critic, self.minibatch_features)
        noised = instance_noise(self.instance_noise, self.noise_rounds, self.n_critic)
        objective = {
            "non_saturating": objectives.non_saturating_loss,
            "minimax": objectives.minimax_loss,
        }[self.loss]

        def value(score: Scorer, batch: Batch, fake: Tensor) -> Tensor:
            real, fake = noised(batch.real, "real", batch.turn), noised(fake, "fake", batch.turn)
            if self.minibatch_features:
                return objectives.discriminator_loss(score(real), score(fake))
            return objectives.discriminator_loss(*nets.scores(score, real, fake))

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return value(critic, batch, nets.without_grad(generator, batch.z)), {}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = generator(batch.z)
            score: Scorer = critic
            if self.unrolled:
                critic_optimizer = recipe.players["critic"].optimizer()
                score = unrolled(critic, critic_optimizer, lambda ahead: value(ahead, batch, fake), self.unrolled)
            return objective(score(noised(fake, "fake", batch.turn))), {}

        recipe = adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            adam(self.critic_lr or self.lr, self.beta1, self.beta2),
            self.n_critic,
            generator_optimizer=adam(self.lr, self.beta1, self.beta2),
        )
        return recipe
