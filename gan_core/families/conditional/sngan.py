"""SNGAN: a hinge loss on a critic whose layers are spectrally normalised. Miyato et al. 2018, arXiv:1802.05957."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gan_core.family import Beta1, Beta2, CriticSteps, Latent, LearningRate
from gan_core.options import AdaptiveFamily, NetFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Sngan(NetFamily, AdaptiveFamily):
    """Each weight of the critic is divided by its largest singular value, so the critic's slope is bounded without a
    penalty. `net=resnet` are SNGAN's residual networks.

    With `labels` the critic is a projection critic (Miyato & Koyama 2018, arXiv:1802.05637), whose embedding is
    normalised as well, and the generator gets z with the one-hot label appended.
    """

    lr: LearningRate = 2e-4
    beta1: Beta1 = 0.0
    beta2: Beta2 = 0.9
    n_critic: CriticSteps = 5
    decay_rounds: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Rounds in which both learning rates fall linearly to 0, where they stay; 0: they never fall."""
    labels: bool = False
    """Whether both networks are given the labels. The data then need two classes or more."""
    latent: Latent = 128
    critic_width: Annotated[int, Field(ge=0, le=8192)] = 0
    """As `width`, of the critic; 0: that of the generator."""

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        """Whether the family needs data of two classes or more."""
        return self.labels

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives
        from gan_core.nets import heads
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView
        from gan_core.techniques.schedules import linear_decay

        generator = nets.generator(self.net, self.latent + (classes if self.labels else 0), shape, self.width)
        critic = nets.spectral_critic(self.net, shape, self.critic_width or self.width)
        if self.labels:
            generator = heads.LabelConcatenation(generator, classes)
            critic = heads.ProjectionCritic(critic, classes)
        critic = nets.spectrally_normalised(critic)
        view = CriticView(self, critic)

        def generated(batch: Batch) -> Tensor:
            return generator(batch.z, batch.labels) if self.labels else generator(batch.z)

        def scores(samples: Tensor, labels: Tensor) -> Tensor:
            return critic(samples, labels) if self.labels else critic(samples)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            with torch.no_grad():
                fake = generated(batch).to(batch.z.dtype)
            seen = view.of(batch, fake)
            both = scores(torch.cat([seen.real, seen.fake]), batch.labels.repeat(2))
            real_score, fake_score = both.chunk(2)
            return view.regularised(objectives.hinge_critic_loss(real_score, fake_score), seen, real_score)

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = view.fake(generated(batch), batch)
            return objectives.hinge_generator_loss(scores(fake, batch.labels)), {}

        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            adam(self.lr, self.beta1, self.beta2),
            self.n_critic,
            view.after_step,
            rate=linear_decay(0, self.decay_rounds) if self.decay_rounds else None,
            conditional=self.labels,
        )
