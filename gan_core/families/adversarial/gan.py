"""The original GAN, with both generator losses. Goodfellow et al. 2014, arXiv:1406.2661."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from gan_core.family import (
    Beta1,
    Beta2,
    CriticLearningRate,
    CriticSteps,
    Latent,
    LearningRate,
    MinibatchFeatures,
    Net,
    Width,
)
from gan_core.options import AdaptiveFamily, BatchNormFamily, InstanceNoiseFamily, R1Family
from gan_core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape
    from gan_core.techniques.critic_view import Seen
    from gan_core.techniques.unrolling import Scorer


class Gan(BatchNormFamily, InstanceNoiseFamily, AdaptiveFamily, R1Family):
    """Two networks, MLPs unless told, play V(D, G) with D = sigmoid(critic). G minimises the non-saturating or the
    minimax loss."""

    lr: LearningRate = 2e-4
    critic_lr: CriticLearningRate = 0.0
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1
    loss: Literal["non_saturating", "minimax"] = "non_saturating"
    """Loss of the generator (section 3)."""
    latent: Latent = 100
    net: Net = "mlp"
    width: Width = 1024
    """Hidden units of an mlp's generator; of other nets the channels next to the image, 32, or infogan's 64."""
    critic_width: Width = 256
    """The same of the critic."""
    minibatch_features: MinibatchFeatures = 0
    unrolled: Annotated[int, Field(ge=0, le=100)] = 0
    """Critic steps that the generator's loss is unrolled over (Metz et al. 2017, arXiv:1611.02163); 0: none."""

    @classmethod
    def width_of(cls, net: str) -> int | None:
        """An mlp's is the default."""
        return None if net == "mlp" else super().width_of(net) or 32

    @model_validator(mode="after")
    def _unrolled_steps_have_no_r1(self) -> Gan:
        if self.unrolled and self.r1_gamma:
            wrong = f"family.r1_gamma={self.r1_gamma} with family.unrolled={self.unrolled}: unrolled steps have no R1"
            raise SettingsError(wrong, nearest="family.r1_gamma=0")
        return self

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.nets import heads
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView
        from gan_core.techniques.unrolling import unrolled

        if self.net == "mlp":
            generator = nets.mlp_generator(self.latent, shape, self.width)
            critic = nets.mlp_critic(shape, self.critic_width)
        else:
            generator = nets.generator(self.net, self.latent, shape, self.width)
            critic = nets.critic(self.net, shape, self.critic_width, batch_norm=self.critic_batch_norm)
        if self.minibatch_features:
            critic = heads.with_minibatch_discrimination(critic, self.minibatch_features)
        view = CriticView(self, critic)
        objective = {
            "non_saturating": objectives.non_saturating_loss,
            "minimax": objectives.minimax_loss,
        }[self.loss]

        def scores(score: Scorer, seen: Seen) -> tuple[Tensor, Tensor]:
            apart = bool(self.minibatch_features or self.critic_batch_norm)
            return nets.scores(score, seen.real, seen.fake, apart=apart)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            seen = view.of(batch, nets.without_grad(generator, batch.z))
            real_score, fake_score = scores(critic, seen)
            return view.regularised(objectives.discriminator_loss(real_score, fake_score), seen, real_score)

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = generator(batch.z)
            if self.unrolled:
                critic_optimizer = recipe.players["critic"].optimizer()
                seen = view.of(batch, fake)

                def ahead(score: Scorer) -> Tensor:
                    return objectives.discriminator_loss(*scores(score, seen))

                return objective(unrolled(critic, critic_optimizer, ahead, self.unrolled)(seen.fake)), {}
            return objective(critic(view.fake(fake, batch))), {}

        recipe = adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            adam(self.critic_lr or self.lr, self.beta1, self.beta2),
            self.n_critic,
            view.after_step,
            generator_optimizer=adam(self.lr, self.beta1, self.beta2),
        )
        return recipe
