"""Conditional WGAN-GP: Gulrajani et al. 2017, arXiv:1704.00028, with the label given to both nets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_core.family import Beta, Family, LearningRate, NetName, Steps, Weight, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class CwganGp(Family):
    """The label stands one-hot beside z; the critic judges by projection (Miyato & Koyama 2018, arXiv:1802.05637).

    A fake has the label of the real sample beside it, and so has every sample between the two, where the critic's
    slope is held near 1."""

    needs_labels = True

    lr: LearningRate = 1e-4
    beta1: Beta = 0.0
    beta2: Beta = 0.9
    gp_lambda: Weight = 10.0
    n_critic: Steps = 5
    net: NetName = "auto"
    width: Width = 32

    def plays_on_points(self) -> bool:
        return self.net not in ("dcgan", "resnet")

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives
        from gan_core.nets import heads
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial

        generator = heads.LabelConcatenation(
            nets.generator(self.net, self.latent + classes, shape, self.width), classes
        )
        critic = heads.ProjectionCritic(nets.wasserstein_critic(self.net, shape, self.width), classes)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            with torch.no_grad():
                fake = generator(batch.z, batch.labels).to(batch.real.dtype)
            real_score, fake_score = critic(torch.cat([batch.real, fake]), batch.labels.repeat(2)).chunk(2)
            distance = objectives.wasserstein_estimate(real_score, fake_score)
            penalty = objectives.gradient_penalty(lambda x: critic(x, batch.labels), batch.real, fake, batch.mix)
            loss = -distance + self.gp_lambda * penalty
            return loss, {"wasserstein_estimate": distance, "gradient_penalty": penalty}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return -critic(generator(batch.z, batch.labels), batch.labels).mean(), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, conditional=True)
