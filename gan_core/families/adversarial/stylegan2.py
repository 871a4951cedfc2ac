"""StyleGAN2. Karras et al. 2020, arXiv:1912.04958."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_core.family import Beta1, Beta2, Latent, LearningRate, Weight, Width
from gan_core.options import AdaptiveFamily, R1Family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from gan_core.recipe import Batch, Recipe, Shape


class Stylegan2(AdaptiveFamily, R1Family):
    """A mapping network turns z into w, whose styles scale the weights of the generator's convolutions. Non-saturating
    losses with lazy R1; path length regularisation and style mixing are options.

    A lazy penalty is part of every so many-th step, times that number, and no step of its own. So Adam's settings need
    no correction for it, unlike in the paper (appendix B), where it is a step of its own.
    """

    real_or_fake = "real_or_fake"
    truncates_w = True
    normal_z = True

    lr: LearningRate = 2.5e-3
    beta1: Beta1 = 0.0
    beta2: Beta2 = 0.99
    latent: Latent = 512
    ema: Annotated[float, Field(ge=0.0, le=0.99999)] = 0.9999
    """Decay per round of the generator's running average; with 64 images a round, 444,000 of them halve a weight."""
    r1_gamma: Weight = 0.1
    """gamma of R1, gamma / 2 E ||grad D(x)||^2 at real samples x. Published: 0.01 at 32x32 to 10 at 1024x1024."""
    r1_every: Annotated[int, Field(ge=1, le=1000)] = 16
    """R1 is part of each so many-th critic step, times that number."""
    width: Width = 32
    """Channels next to the image, doubled at each halving of the sides."""
    channel_max: Width = 512
    """The most channels of any layer."""
    mapping_layers: Annotated[int, Field(ge=1, le=32)] = 2
    """Layers of the mapping network. The paper has 8; 2 are enough for small images (Karras et al. 2020,
    arXiv:2006.06676, appendix D)."""
    critic: Literal["residual", "plain"] = "residual"
    """Whether the critic's blocks have a path past them."""
    minibatch_group: Annotated[int, Field(ge=1, le=4096)] = 4
    """Samples whose deviation from each other the critic sees; 1: it sees none."""
    path_length: Weight = 0.0
    """Weight of path length regularisation, in every 4th step times 4; 0: none. The paper's is 2."""
    mixing: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of generated images in training that have the styles of two z. The paper's is 0.9."""

    def plays_on_points(self) -> bool:
        return False

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        from gan_core import nets, objectives, ranks, streams
        from gan_core.optimizers import adam
        from gan_core.recipe import Player, Recipe
        from gan_core.techniques.critic_view import CriticView

        generator = nets.StyleGenerator(self.latent, shape, self.width, self.channel_max, self.mapping_layers)
        critic = nets.stylegan2_critic(
            shape, self.width, self.channel_max, residual=self.critic == "residual", group=self.minibatch_group
        )
        if self.path_length:
            generator.register_buffer("path_mean", torch.zeros(()))
        view = CriticView(self, critic)
        ws: list[Tensor] = []  # means of w, and below of path lengths, of the passes of one turn
        lengths: list[Tensor] = []

        def critic_loss(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
            with torch.no_grad():
                styles = generator.styles(batch.z, batch.turn, self.mixing)
                fake = generator.images(styles, batch.turn).to(batch.z.dtype)
            seen = view.of(batch, fake)
            real_score, fake_score = critic(seen.real), critic(seen.fake)  # each batch has its own deviation
            loss = objectives.discriminator_loss(real_score, fake_score)
            total, scalars = view.regularised(loss, seen, real_score)
            return total, {**scalars, "real_or_fake": loss}

        def generator_loss(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            styles = generator.styles(batch.z, batch.turn, self.mixing)
            ws.append(styles[:, 0].detach().to(batch.z.dtype).mean(dim=0))
            fake = generator.images(styles, batch.turn)
            loss = objectives.non_saturating_loss(critic(view.fake(fake, batch)))
            if not self.path_length:
                return loss, {}
            mean = generator.get_buffer("path_mean").clone()  # autograd keeps it until the backward pass
            if batch.turn.number % 4 == 0:
                noise = streams.normal(batch.turn, "path length", fake)
                length = objectives.path_lengths(fake, styles, noise)
                lengths.append(length.detach().mean())
                loss = loss + 4 * self.path_length * (length - mean).square().mean()
            return loss, {"path_length": mean}

        @torch.no_grad()
        def track() -> None:
            generator.track(ranks.mean(torch.stack(ws).mean(dim=0)))
            ws.clear()
            if lengths:
                mean = generator.get_buffer("path_mean")
                mean.lerp_(ranks.mean(torch.stack(lengths).mean().to(mean.dtype)), 0.01)
                lengths.clear()

        optimizer = adam(self.lr, self.beta1, self.beta2)
        players = {
            "critic": Player(critic, critic_loss, optimizer, sees_real=True, after_step=view.after_step),
            "generator": Player(generator, generator_loss, optimizer, after_step=track),
        }
        return Recipe(players, generator)
