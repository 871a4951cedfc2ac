"""A right family, and families with one mistake each, which `check_family` must find. Imports torch late, as families
do."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, PrivateAttr

from gan_core.family import CriticSteps, Family, LearningRate, PenaltyWeight, Width

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gan_core.recipe import Batch, Recipe, Shape


class Right(Family):
    """WGAN-GP in parts that the others replace."""

    lr: LearningRate = 1e-3
    gp_lambda: PenaltyWeight = 1.0
    n_critic: CriticSteps = 2
    width: Width = 16

    def plays_on_points(self) -> bool:
        return False

    def generator(self, shape: Shape) -> nn.Module:
        from gan_core import nets

        return nets.dcgan_generator(self.latent, shape, self.width)

    def critic(self, shape: Shape) -> nn.Module:
        from torch import Size, nn

        layers = nn.Flatten(), nn.Linear(Size(shape).numel(), self.width), nn.SiLU(), nn.Linear(self.width, 1)
        return nn.Sequential(*layers, nn.Flatten(0))

    def penalty(self, critic: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        """The gradient penalty by autograd, as most code has it."""
        import torch

        between = torch.lerp(fake, batch.real, batch.mix).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()

    def changed(self, fake: Tensor, batch: Batch) -> Tensor:
        return fake

    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        from gan_core import nets

        fake = self.changed(nets.without_grad(generator, batch.z), batch)
        real_score, fake_score = critic(batch.real), critic(fake)
        loss = fake_score.mean() - real_score.mean()
        return loss + self.gp_lambda * self.penalty(critic, batch, fake), {"distance": -loss}

    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        return -critic(generator(batch.z)).mean(), {}

    def after(self, critic: nn.Module, generator: nn.Module) -> Any:
        return None

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from gan_core.optimizers import adam
        from gan_core.recipe import adversarial

        generator, critic = self.generator(shape), self.critic(shape)

        def critic_loss(batch: Batch) -> Any:
            return self.critic_loss(critic, generator, batch)

        def generator_loss(batch: Batch) -> Any:
            return self.generator_loss(critic, generator, batch)

        after = self.after(critic, generator)
        optimizer = adam(self.lr, 0.0, 0.9)
        return adversarial(critic, critic_loss, generator, generator_loss, optimizer, self.n_critic, after)


class RightWithAll(Right):
    """State in a buffer, random numbers from streams, GroupNorm, spectral norm, features kept in an attribute."""

    def critic(self, shape: Shape) -> nn.Module:
        import torch
        from torch import nn

        from gan_core import nets

        class Keeping(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.features: Tensor | None = None

            def forward(self, x: Tensor) -> Tensor:
                self.features = x
                return x

        first = nn.Conv2d(shape[0], 4, 3, 2, 1), nn.GroupNorm(2, 4), nn.SiLU(), Keeping()
        critic = nn.Sequential(*first, nn.Conv2d(4, 8, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.LazyLinear(1))
        critic(torch.zeros(1, *shape))
        whole = nets.spectrally_normalised(nn.Sequential(*critic, nn.Flatten(0)))
        whole.register_buffer("seen", torch.zeros(()))
        return whole

    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        from gan_core import ranks, streams

        noised = batch._replace(real=batch.real + 0.1 * streams.normal(batch.turn, "noise", batch.real))
        loss, scalars = super().critic_loss(critic, generator, noised)
        seen = critic.get_buffer("seen")
        seen.add_(ranks.mean(batch.real.mean()))
        return loss * (1 + seen.clone().tanh().square()), scalars


# A penalty in a second backward


class BackwardInTheLoss(Right):
    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        from gan_core import nets

        fake = nets.without_grad(generator, batch.z)
        (self.gp_lambda * self.penalty(critic, batch, fake)).backward()
        return critic(fake).mean() - critic(batch.real).mean(), {}


class BackwardAfterTheStep(Right):
    def after(self, critic: nn.Module, generator: nn.Module) -> Any:
        import torch

        more = torch.optim.SGD(critic.parameters(), lr=0.1)

        def penalise() -> None:
            more.zero_grad()
            sum(weight.square().sum() for weight in critic.parameters()).backward()
            more.step()

        return penalise


class GradientsByHand(Right):
    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        import torch

        loss, scalars = super().critic_loss(critic, generator, batch)
        weights = list(critic.parameters())
        for weight, grad in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
            weight.grad = 0.1 * grad
        return loss, scalars


class BackwardInAHook(Right):
    """The second pass runs while the first one does, which no look at `.grad` after the loss sees."""

    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        import torch

        from gan_core import nets

        fake = nets.without_grad(generator, batch.z)
        penalty = self.gp_lambda * self.penalty(critic, batch, fake)
        weights = list(critic.parameters())
        grads = torch.autograd.grad(penalty, weights, allow_unused=True)
        loss = critic(fake).mean() - critic(batch.real).mean()

        def add(_: Tensor) -> None:
            for weight, grad in zip(weights, grads, strict=True):
                if grad is not None:
                    weight.data.sub_(1e-3 * grad)

        loss.register_hook(add)
        return loss, {}


class PenaltyWithoutGraph(Right):
    def penalty(self, critic: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        import torch

        between = torch.lerp(fake, batch.real, batch.mix).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()


class PenaltyDetached(Right):
    def penalty(self, critic: nn.Module, batch: Batch, fake: Tensor) -> Tensor:
        return super().penalty(critic, batch, fake).detach()


# A draw from a global generator


class NoiseOfTorch(Right):
    def changed(self, fake: Tensor, batch: Batch) -> Tensor:
        import torch

        return fake + 0.1 * torch.randn_like(fake)


class NoiseOfNumpy(Right):
    def changed(self, fake: Tensor, batch: Batch) -> Tensor:
        import numpy as np

        return fake * float(np.random.rand())


class FlipOfPython(Right):
    def changed(self, fake: Tensor, batch: Batch) -> Tensor:
        import random

        return fake.flip(3) if random.random() < 0.5 else fake


class WeightsOfNumpy(Right):
    def critic(self, shape: Shape) -> nn.Module:
        import numpy as np

        critic = super().critic(shape)
        critic[1].bias.data.fill_(float(np.random.rand()))
        return critic


class Dropout(Right):
    def critic(self, shape: Shape) -> nn.Module:
        from torch import nn

        critic = super().critic(shape)
        return nn.Sequential(*critic[:3], nn.Dropout(0.3), *critic[3:])


class GeneratorOfItsOwn(Right):
    """A generator of random numbers in a closure: no global one, but its state is in no checkpoint."""

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import torch

        recipe = super().recipe(shape, classes)
        draw = torch.Generator().manual_seed(0)
        player = recipe.players["critic"]
        plain = player.loss

        def loss(batch: Batch) -> Any:
            noise = torch.randn(batch.real.shape, generator=draw, dtype=batch.real.dtype)
            return plain(batch._replace(real=batch.real + 0.1 * noise))

        player.loss = loss
        return recipe


class Clock(Right):
    def critic(self, shape: Shape) -> nn.Module:
        import time

        critic = super().critic(shape)
        critic[1].bias.data.fill_(time.perf_counter_ns() % 1000 / 1000)
        return critic


class NoisySamples(Right):
    def generator(self, shape: Shape) -> nn.Module:
        import torch
        from torch import nn

        class Noise(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x if self.training else x + 0.1 * torch.rand_like(x)

        plain = super().generator(shape)
        return nn.Sequential(Noise(), plain)


# A BatchNorm that is not global


class BatchNormInTheCritic(Right):
    def critic(self, shape: Shape) -> nn.Module:
        from torch import nn

        critic = super().critic(shape)
        first = nn.Conv2d(shape[0], shape[0], 3, padding=1), nn.BatchNorm2d(shape[0])
        return nn.Sequential(*first, *critic)


class BatchNormInTheGenerator(Right):
    def generator(self, shape: Shape) -> nn.Module:
        from torch import Size, nn

        hidden = nn.Linear(self.latent, 16), nn.BatchNorm1d(16), nn.SiLU()
        return nn.Sequential(*hidden, nn.Linear(16, Size(shape).numel()), nn.Tanh(), nn.Unflatten(1, shape))


class SyncedBatchNorm(Right):
    def critic(self, shape: Shape) -> nn.Module:
        from torch import nn

        critic = super().critic(shape)
        first = nn.Conv2d(shape[0], shape[0], 3, padding=1), nn.SyncBatchNorm(shape[0])
        return nn.Sequential(*first, *critic)


class Summed(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        return -critic(generator(batch.z)).sum(), {}


class MeanSquared(Right):
    """A function of the batch's mean, which is another one on each worker."""

    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        return (critic(generator(batch.z)).mean() - 1).square(), {}


class LoggedSum(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        scores = critic(generator(batch.z))
        return -scores.mean(), {"scores": scores.detach().sum()}


class BufferOfOneRank(Right):
    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        critic.get_buffer("seen").add_(batch.real.mean())
        return super().critic_loss(critic, generator, batch)

    def critic(self, shape: Shape) -> nn.Module:
        import torch

        critic = super().critic(shape)
        critic.register_buffer("seen", torch.zeros(()))
        return critic


# State outside of the checkpoint


class Counter(Right):
    def critic(self, shape: Shape) -> nn.Module:
        from torch import nn

        class Fading(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.calls = 0

            def forward(self, x: Tensor) -> Tensor:
                self.calls += 1
                return x / self.calls

        return nn.Sequential(Fading(), *super().critic(shape))


class UnregisteredTensor(Right):
    def critic(self, shape: Shape) -> nn.Module:
        import torch

        critic = super().critic(shape)
        critic.k = torch.zeros(())
        return critic

    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        loss, scalars = super().critic_loss(critic, generator, batch)
        critic.k = critic.k + 0.1
        return loss * (1 + critic.k), scalars


class UnsavedBuffer(Right):
    def critic(self, shape: Shape) -> nn.Module:
        import torch

        critic = super().critic(shape)
        critic.register_buffer("k", torch.zeros(()), persistent=False)
        return critic

    def critic_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        loss, scalars = super().critic_loss(critic, generator, batch)
        k = critic.get_buffer("k")
        k += 0.1
        return loss * (1 + k.clone()), scalars


class PoolOfFakes(Right):
    """A closure that mixes fakes of earlier turns in (Shrivastava et al. 2017)."""

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        recipe = super().recipe(shape, classes)
        pool: deque[Tensor] = deque(maxlen=3)
        player = recipe.players["critic"]
        plain = player.loss

        def pooled_loss(batch: Batch) -> Any:
            pool.append(batch.real)
            return plain(batch._replace(real=pool[0]))

        player.loss = pooled_loss
        return recipe


class SecondOptimizer(Right):
    """Its momentum is in no checkpoint; the gradient is the mean over ranks, so workers agree."""

    def after(self, critic: nn.Module, generator: nn.Module) -> Any:
        import torch

        more = torch.optim.SGD(critic.parameters(), lr=0.01, momentum=0.9)
        return more.step


class Private(Right):
    _calls: list[int] = PrivateAttr(default_factory=list)

    def changed(self, fake: Tensor, batch: Batch) -> Tensor:
        self._calls.append(1)
        return fake / len(self._calls)


SEEN: list[int] = []


class OfTheModule(Right):
    def changed(self, fake: Tensor, batch: Batch) -> Tensor:
        SEEN.append(1)
        return fake / len(SEEN)


# Losses, networks and fields


class NoScalar(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        return -critic(generator(batch.z)), {}


class LossAlone(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        return -critic(generator(batch.z)).mean()


class LogsAFloat(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        loss = -critic(generator(batch.z)).mean()
        return loss, {"score": float(loss)}


class NotFinite(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        return (critic(generator(batch.z)) - 1000).sqrt().mean(), {}


class NoGraph(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        import torch

        with torch.no_grad():
            return -critic(generator(batch.z)).mean(), {}


class Detached(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        weight = next(iter(generator.parameters()))
        return -critic(generator(batch.z).detach()).mean() + 0 * weight.sum(), {}


class UnusedWeight(Right):
    def critic(self, shape: Shape) -> nn.Module:
        from torch import nn

        critic = super().critic(shape)
        critic[1].spare = nn.Linear(2, 2)
        return critic


class Float32(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        import torch

        weights = torch.ones(len(batch.z), 1)
        return -(critic(generator(batch.z))[None] @ weights).mean(), {}


class BytesOnly(Right):
    def generator(self, shape: Shape) -> nn.Module:
        from torch import nn

        class Bytes(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x + 1) * 127.5

        return nn.Sequential(super().generator(shape), Bytes())


class OtherShape(Right):
    def generator(self, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.Sequential(super().generator(shape), nn.Flatten())


class AlwaysTheSame(Right):
    def generator(self, shape: Shape) -> nn.Module:
        from torch import nn

        class Zeros(nn.Module):
            def forward(self, z: Tensor) -> Tensor:
                return z * 0

        return nn.Sequential(Zeros(), super().generator(shape))


class NormalisesSamples(Right):
    def generator(self, shape: Shape) -> nn.Module:
        from torch import nn

        from gan_core import ranks

        class Centred(nn.Module):
            def forward(self, z: Tensor) -> Tensor:
                return z - ranks.differentiable_mean(z.mean(dim=0))

        return nn.Sequential(Centred(), super().generator(shape))


class AverageOfAList(Right):
    """The generator that is sampled has its network in a list, so its copy is no copy."""

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        from dataclasses import replace

        from torch import nn

        recipe = super().recipe(shape, classes)
        plain = recipe.generator

        class Wrapper(nn.Module):
            def forward(self, z: Tensor) -> Tensor:
                return plain(z)

        return replace(recipe, generator=Wrapper())


class SamplesACopy(Right):
    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import copy
        from dataclasses import replace

        recipe = super().recipe(shape, classes)
        return replace(recipe, generator=copy.deepcopy(recipe.generator))


class Thawed(Right):
    model_config = ConfigDict(frozen=False)


class Loose(Right):
    model_config = ConfigDict(extra="ignore")


class WithoutDefault(Right):
    beta1: float


class FunctionField(Right):
    activation: Annotated[Any, Field(description="A function, which no file can hold.")] = max


class Labelled(Right):
    """Counts on several classes, and does not say that it needs labels."""

    def recipe(self, shape: Shape, classes: int) -> Recipe:
        import math

        recipe = super().recipe(shape, classes)
        player = recipe.players["critic"]
        plain = player.loss

        def loss(batch: Batch) -> Any:
            value, scalars = plain(batch)
            return value / math.log(classes), scalars

        player.loss = loss
        return recipe


class Broken(Right):
    def generator_loss(self, critic: nn.Module, generator: nn.Module, batch: Batch) -> Any:
        return critic(generator(batch.z).reshape(3, -1)).mean(), {}
