"""BEGAN: the critic is an autoencoder, whose error is low for reals and high for fakes. Berthelot et al. 2017,
arXiv:1703.10717."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gan_core.family import Beta1, Beta2, Family, LearningRate, Width

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Began(Family):
    """Section 3.4: the critic minimises L(x) - k L(G(z)), the generator L(G(z)), with L(v) = E |v - D(v)|, a mean over
    pixels. Each round adds lambda_k (gamma L(x) - L(G(z))) to k, which stays within [0, 1]. The autoencoder's hidden
    state is as wide as z. z is normal; in the paper it is uniform."""

    lr: LearningRate = 1e-4
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Diversity ratio: the target for the error of fakes, in units of the error of reals."""
    lambda_k: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-3
    """Learning rate of k."""
    width: Width = 32
    """Channels of each convolution."""

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives, ranks
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial

        generator = nets.began_decoder(self.latent, shape, self.width)
        critic = nets.began_autoencoder(shape, self.latent, self.width)
        critic.register_buffer("k", torch.zeros(()))
        errors: list[Tensor] = []  # of the passes of one turn

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = nets.without_grad(generator, batch.z)
            real_decoded, fake_decoded = nets.scores(critic, batch.real, fake)
            real_error, fake_error = (
                objectives.l1_error(batch.real, real_decoded),
                objectives.l1_error(fake, fake_decoded),
            )
            k = critic.get_buffer("k").clone()  # autograd keeps it until the backward pass
            with torch.no_grad():
                errors.append(ranks.mean(torch.stack([real_error, fake_error])))
                real_mean, fake_mean = errors[-1]
                balance = self.gamma * real_mean - fake_mean
            return real_error - k * fake_error, {"convergence": real_mean + balance.abs(), "k": k}

        @torch.no_grad()
        def update_k() -> None:
            real_mean, fake_mean = torch.stack(errors).mean(dim=0)
            critic.get_buffer("k").add_(self.lambda_k * (self.gamma * real_mean - fake_mean)).clamp_(0, 1)
            errors.clear()

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = generator(batch.z).to(batch.z.dtype)
            return objectives.l1_error(fake, critic(fake)), {}

        optimizer = adam(self.lr, self.beta1, self.beta2)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, 1, update_k)
