"""DCGAN: the non-saturating game of all-convolutional nets. Radford et al. 2016, arXiv:1511.06434."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gan_core.family import Beta1, Beta2, CriticSteps, LearningRate, MinibatchFeatures, Width
from gan_core.options import AdaptiveFamily, InstanceNoiseFamily, R1Family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Dcgan(InstanceNoiseFamily, AdaptiveFamily, R1Family):
    """Strided convolutions, BatchNorm in both nets (of real and fake images separately), Adam(2e-4, 0.5)."""

    lr: LearningRate = 2e-4
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1
    width: Width = 32
    """Channels of the layer next to the image, doubled at each halving of the side."""
    minibatch_features: MinibatchFeatures = 0
    dropout: Annotated[float, Field(ge=0.0, le=0.95)] = 0.0
    """Share of the generator's features that dropout sets to zero after each BatchNorm in training."""

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.nets import heads
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView
        from gan_core.techniques.noise import in_turn, with_dropout

        generator = with_dropout(nets.dcgan_generator(self.latent, shape, self.width), self.dropout)
        critic = nets.dcgan_critic(shape, self.width, batch_norm=True)
        if self.minibatch_features:
            critic = heads.with_minibatch_discrimination(critic, self.minibatch_features)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            seen = view.of(batch, nets.without_grad(in_turn(generator, batch.turn), batch.z))
            real_score, fake_score = critic(seen.real), critic(seen.fake)
            return view.regularised(objectives.discriminator_loss(real_score, fake_score), seen, real_score)

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = view.fake(in_turn(generator, batch.turn)(batch.z), batch)
            return objectives.non_saturating_loss(critic(fake)), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, view.after_step)
