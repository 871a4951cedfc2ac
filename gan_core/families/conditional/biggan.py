"""BigGAN: the class reaches every layer of the generator. Brock et al. 2019, arXiv:1809.11096."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gan_core.family import Beta1, Beta2, CriticLearningRate, CriticSteps, Latent, LearningRate, Weight
from gan_core.options import AdaptiveFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Biggan(AdaptiveFamily):
    """A hinge loss, residual networks with self-attention, spectral normalisation in both. The gains and offsets of
    the generator's BatchNorms are linear in the class's embedding, which all share, and a chunk of z each. The critic
    is a projection critic (Miyato & Koyama 2018, arXiv:1802.05637).

    Samples of truncated z (`ganfleet sample --truncation`) trade variety for fidelity.
    """

    needs_labels = True

    lr: LearningRate = 2e-4
    critic_lr: CriticLearningRate = 2e-4
    beta1: Beta1 = 0.0
    beta2: Beta2 = 0.999
    n_critic: CriticSteps = 1
    ortho: Weight = 1e-4
    """Weight of orthogonal regularisation of the generator (equation 3), which makes it fit for truncation; 0: none."""
    latent: Latent = 120
    """Dimension of z ~ N(0, I), which is cut into a chunk for the first layer and one for each block."""
    width: Annotated[
        int,
        Field(
            ge=1,
            le=8192,
            description="Channels next to the image: 4 times the paper's ch up to 32x32, twice at 64x64, ch beyond.",
        ),
    ] = 64

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.critic_view import CriticView

        generator = nets.biggan_generator(self.latent, shape, classes, self.width)
        critic = nets.biggan_critic(shape, classes, self.width)
        view = CriticView(self, critic)

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            with torch.no_grad():
                fake = generator(batch.z, batch.labels).to(batch.real.dtype)
            seen = view.of(batch, fake)
            scores = critic(torch.cat([seen.real, seen.fake]), batch.labels.repeat(2))
            real_score, fake_score = scores.chunk(2)
            return view.regularised(objectives.hinge_critic_loss(real_score, fake_score), seen, real_score)

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = view.fake(generator(batch.z, batch.labels), batch)
            loss = objectives.hinge_generator_loss(critic(fake, batch.labels))
            if not self.ortho:
                return loss, {}
            penalty = nets.orthogonal_regularisation(generator)
            return loss + self.ortho * penalty, {"orthogonality": penalty}

        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            adam(self.critic_lr or self.lr, self.beta1, self.beta2),
            self.n_critic,
            view.after_step,
            generator_optimizer=adam(self.lr, self.beta1, self.beta2),
            conditional=True,
        )
