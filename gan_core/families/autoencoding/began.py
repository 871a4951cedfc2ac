"""BEGAN: the critic is an autoencoder, whose error is low for reals and high for fakes. Berthelot et al. 2017,
arXiv:1703.10717."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_core.family import Beta1, Beta2, CriticSteps, Latent, LearningRate, Width
from gan_core.options import WidthOfNetFamily

if TYPE_CHECKING:
    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Began(WidthOfNetFamily):
    """Section 3.4: the critic minimises L(x) - k L(G(z)), the generator L(G(z)), with L(v) = E |v - D(v)|, a mean over
    pixels. Each critic step adds lambda_k (gamma L(x) - L(G(z))) to k, which stays within [0, 1].

    The defaults are for runs of thousands of rounds. There the paper's settings (k from 0, gamma 0.5, one learning
    rate) end with few different samples: while k is near 0 nothing tells the generator to vary them.
    """

    lr: LearningRate = 2e-4
    """Learning rate of the critic."""
    generator_rate: Annotated[float, Field(gt=0.0, le=1000.0)] = 10.0
    """Learning rate of the generator, in units of `lr`. The paper's is 1."""
    halve_rounds: Annotated[int, Field(ge=0, le=10**9)] = 1000
    """Rounds after which both learning rates are halved, again and again; 0: never. The paper halves them when the
    convergence measure stalls."""
    beta1: Beta1 = 0.5
    beta2: Beta2 = 0.999
    gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Diversity ratio: the target for the error of fakes, in units of the error of reals."""
    lambda_k: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-3
    """Learning rate of k."""
    k_start: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """k in the first round. The paper's is 0."""
    n_critic: CriticSteps = 1
    net: Literal["dcgan", "began", "infogan"] = "dcgan"
    """dcgan: DCGAN's generator, and an autoencoder of 5x5 convolutions of stride 2. began: the paper's networks.
    infogan: those of "Are GANs Created Equal?" (Lucic et al. 2018)."""
    critic_batch_norm: bool = False
    """Whether infogan's autoencoder has BatchNorm; it decodes real and fake samples separately then."""
    hidden: Annotated[int, Field(ge=0, le=4096)] = 16
    """Width of the autoencoder's hidden state; 0: that of z, as in the paper."""
    latent: Latent = 16
    width: Width = 16
    """Channels: of each convolution (began), or next to the image (dcgan; infogan's has 64)."""

    def without_meaning(self) -> dict[str, tuple[str, str]]:
        own = {} if self.net == "infogan" else {"critic_batch_norm": ("net", "infogan")}
        return super().without_meaning() | own

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives, ranks
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial
        from gan_core.techniques.schedules import halvings

        hidden = self.hidden or self.latent
        if self.net == "began":
            generator = nets.began_decoder(self.latent, shape, self.width)
            critic = nets.began_autoencoder(shape, hidden, self.width)
        elif self.net == "infogan":
            generator = nets.infogan_generator(self.latent, shape, self.width)
            critic = nets.infogan_autoencoder(shape, hidden, self.width, batch_norm=self.critic_batch_norm)
        else:
            generator = nets.dcgan_generator(self.latent, shape, self.width)
            decoder = nets.conv_decoder(hidden, shape, self.width, bounded=False)
            critic = nets.Autoencoder(nets.conv_encoder(shape, hidden, self.width), decoder)
        critic.register_buffer("k", torch.tensor(self.k_start))
        errors: list[Tensor] = []  # of the passes of one turn

        def critic_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            fake = nets.without_grad(generator, batch.z)
            real_decoded, fake_decoded = nets.scores(critic, batch.real, fake, apart=self.critic_batch_norm)
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

        return adversarial(
            critic,
            critic_loss,
            generator,
            generator_loss,
            adam(self.lr, self.beta1, self.beta2),
            self.n_critic,
            update_k,
            generator_optimizer=adam(self.generator_rate * self.lr, self.beta1, self.beta2),
            rate=halvings(self.halve_rounds) if self.halve_rounds else None,
        )
