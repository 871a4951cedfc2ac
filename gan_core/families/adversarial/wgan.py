"""WGAN: the earth mover's distance by weight clipping. Arjovsky et al. 2017, arXiv:1701.07875."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_core.family import CriticSteps, Family, LearningRate, Net, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Wgan(Family):
    """Algorithm 1: n_critic steps, each followed by clamping every critic parameter to [-clip, clip].

    The default is RMSProp, because with momentum training became unstable in the paper (section 4). For the same reason
    Adam's betas are (0, 0.9).
    """

    lr: LearningRate = 5e-5
    clip: Annotated[float, Field(ge=1e-6, le=100.0)] = 0.01
    """Bound of every critic weight: after each step weights are clamped to [-clip, clip]."""
    n_critic: CriticSteps = 5
    optimizer: Literal["rmsprop", "sgd", "adam"] = "rmsprop"
    """Optimiser of both players."""
    net: Net = "auto"
    width: Width = 32

    def plays_on_points(self) -> bool:
        return self.net not in ("dcgan", "resnet")

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core import nets, objectives
        from gan_core.optimizers import adam, rmsprop, sgd
        from gan_core.recipe import adversarial

        generator = nets.generator(self.net, self.latent, shape, self.width)
        critic = nets.wasserstein_critic(self.net, shape, self.width)

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = nets.without_grad(generator, batch.z)
            distance = objectives.wasserstein_estimate(*nets.scores(critic, batch.real, fake))
            return -distance, {"wasserstein_estimate": distance}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            return -critic(generator(batch.z)).mean(), {}

        def clamp() -> None:
            for weight in critic.parameters():
                weight.data.clamp_(-self.clip, self.clip)

        optimizer = {"rmsprop": rmsprop(self.lr), "sgd": sgd(self.lr), "adam": adam(self.lr, 0.0, 0.9)}[self.optimizer]
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, clamp)
