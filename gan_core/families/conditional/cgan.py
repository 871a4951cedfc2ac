"""Conditional GAN: both nets see the label. Mirza & Osindero 2014, arXiv:1411.1784."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from gan_core.family import Beta1, Beta2, CriticSteps, Latent, LearningRate, Width
from gan_core.options import AdaptiveFamily, InstanceNoiseFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from gan_core.recipe import Batch, Recipe, Shape


class Cgan(InstanceNoiseFamily, AdaptiveFamily):
    """The non-saturating game, given the label y. The generator gets z with the one-hot label appended. An MLP critic
    gets the sample with the label appended; DCGAN's critic uses projection (Miyato & Koyama 2018, arXiv:1802.05637).
    The critic sees a fake with the label that it was generated for."""

    needs_labels = True
    real_or_fake = "loss/critic"

    lr: LearningRate = 2e-4
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1
    net: Literal["auto", "mlp", "dcgan"] = "auto"
    """Kind of networks; auto: dcgan for images, mlp for points. dcgan takes images only."""
    latent: Latent = 100
    width: Width = 32

    def plays_on_points(self) -> bool:
        return self.net != "dcgan"

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
        critic = self._critic(shape, classes)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            with torch.no_grad():
                fake = generator(batch.z, batch.labels).to(batch.real.dtype)
            seen = view.of(batch, fake)
            real_score, fake_score = critic(seen.real, batch.labels), critic(seen.fake, batch.labels)
            return view.regularised(objectives.discriminator_loss(real_score, fake_score), seen, real_score)

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = view.fake(generator(batch.z, batch.labels), batch)
            return objectives.non_saturating_loss(critic(fake, batch.labels)), {}

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

    def _critic(self, shape: Shape, classes: int) -> nn.Module:
        from gan_core import nets
        from gan_core.nets import heads

        if self.net == "mlp" or len(shape) == 1:
            return heads.LabelConcatenation(nets.mlp_critic((math.prod(shape) + classes,), 16 * self.width), classes)
        return heads.ProjectionCritic(nets.dcgan_critic(shape, self.width, batch_norm=True), classes)
