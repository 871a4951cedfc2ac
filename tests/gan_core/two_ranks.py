"""The games that one process and two processes play, which `test_world_size` compares. Does not import pytest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gan_core import checkpoint, nets, objectives, ranks, streams
from gan_core.experiment import Experiment
from gan_core.family import family_names
from gan_core.health.divergence import DivergedError
from gan_core.health.signs import health_metrics
from gan_core.loop import Game
from gan_core.measures import Metrics
from gan_core.metrics.scores import MeasureError, scores
from gan_core.metrics.statistics.reference import Reference
from gan_core.nets import heads
from gan_core.recipe import Batch, Turn
from gan_core.testing.record import record
from tests.gan_core.games import dataset, new_game, play, small, state

ROUNDS = 8
SIZED = (("dcgan", "48"), ("wgan_gp-resnet", "64x128"))
"""Games of coloured images of other sizes, for which two rounds tell."""
FID_SAMPLES = 601  # odd, so that the ranks' shares differ


MUTATED = ("dcgan", "dcgan-minibatch_features", "wgan_gp")
"""The games that mutants are compared with."""


def work(rank: int, world: int, folder: Path, names: Sequence[str], others: bool) -> None:
    """Plays these games as `rank` of `world`, and what is none of them if `others`, and saves all as
    `folder/rank-world.pt`."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world)
    real = Reference.from_bytes((folder / "reference").read_bytes(), dataset(small("wgan")))
    found: dict[str, Any] = {}
    for name in names:
        for precision in ("fp64", "fp32") if name in family_names() else ("fp64",):
            found[f"{name}/{precision}"] = _played(_quick(name, precision), real)
        if name in family_names():
            found[f"{name}/resized"] = _resized(name, folder / f"half {name}")
    if others:
        found |= _others(real)
    torch.save(found, folder / f"{rank}-{world}.pt")
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def _others(real: Reference) -> dict[str, Any]:
    """Images of other sizes, mutants, layers, errors, measures."""
    found: dict[str, Any] = {}
    for name, size in SIZED:
        found[f"{name}/{size}"] = _sized(name, size)
    found["mutant/batch norm"] = _played(_quick("dcgan", "fp64"), real, _forget_other_ranks)
    found["mutant/closeness"] = _played(_quick("dcgan-minibatch_features", "fp64"), real, _compare_with_own_share)
    found["mutant/penalty apart"] = _penalty_apart(small("wgan_gp", "compute.precision=fp64"))
    found["batch norm"] = _batch_norm()
    found["diverged"] = _diverged()
    found["measured"] = _measured(real, "precision", "recall", "coverage", "ink")
    found["unmeasured"] = _unmeasured(real)
    return found


def _quick(name: str, precision: str) -> Experiment:
    turns = ["family.n_critic=2"] if "n_critic" in type(small(name).family).model_fields else []
    return small(name, f"compute.precision={precision}", f"metrics.samples={FID_SAMPLES}", *turns)


def _played(experiment: Experiment, reference: Reference, change: Any = None) -> dict[str, Any]:
    """Losses of each round, gradients of each turn, the final state and its FID."""
    game = new_game(experiment)
    if change:
        change(game)
    data = dataset(experiment)
    if not data.is_images:
        reference = Reference.build(Metrics(), data)
    real = data.to(game.device, game.dtype)
    played = record(game, real.images, real.labels, ROUNDS)
    measured = scores(game, reference)
    return {
        "losses": played.losses,
        "grads": [(name, torch.cat([one.flatten() for one in grads.values()])) for name, grads in played.grads],
        "state": state(game),
        "fid": measured["fid"],
        "signs": {"variety": measured["variety"], **health_metrics(game)},
    }


def _resized(name: str, folder: Path) -> dict[str, Tensor]:
    """One process plays the first half and saves. Two resume, and are interrupted once more."""
    if ranks.world_size() == 1:
        game = new_game(_quick(name, "fp64"))
        play(game, ROUNDS // 2)
        checkpoint.save(game, folder)
    else:
        game = checkpoint.open_game(folder)
        play(game, 3)
        play(game, ROUNDS - ROUNDS // 2 - 3)
    return state(game)


def _sized(name: str, size: str) -> dict[str, Tensor]:
    words = ["data.name=photos", f"data.image_size={size}", "compute.precision=fp64"]
    experiment = small(name, *words, width=2)
    real = dataset(experiment)
    game = Game(experiment, real.shape, classes=real.classes)
    some = real.images[:64].to(game.dtype)
    record(game, some, real.labels[:64], 2)
    return state(game)


def _forget_other_ranks(game: Game) -> None:
    """A mutant: every BatchNorm uses its own rank's slice only."""
    for net in (game.average, *game.players.values()):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = nn.BatchNorm2d


class _Alone(heads.MinibatchDiscrimination):
    """Minibatch discrimination within a rank's own slice."""

    def forward(self, features: Tensor) -> Tensor:
        mine = self.project(features).unflatten(1, (self.kernels, 5))
        return torch.cat([features, (-torch.cdist(*[mine.transpose(0, 1)] * 2, p=1)).exp().sum(dim=2).T], dim=1)


def _compare_with_own_share(game: Game) -> None:
    """A mutant: minibatch discrimination ignores the samples of other ranks."""
    for module in game.players["critic"].modules():
        if isinstance(module, heads.MinibatchDiscrimination):
            module.__class__ = _Alone


class _Apart(nn.Module):
    """A mutant: WGAN-GP's critic returns the penalty separately from its loss."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.net = game.players["critic"].net
        self.game = game

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        fake = nets.without_grad(self.game.generator, batch.z)
        distance = objectives.wasserstein_estimate(*nets.scores(self.net, batch.real, fake))
        penalty = objectives.gradient_penalty(self.net, batch.real, fake, batch.mix)
        return -distance, self.game.experiment.family.gp_lambda * penalty


def _penalty_apart(experiment: Experiment) -> Tensor:
    """The critic's gradient in its first turn, from two backward passes through one DDP forward pass."""
    game = new_game(experiment)
    player = _Apart(game)
    module = DistributedDataParallel(player) if ranks.world_size() > 1 else player
    real = dataset(experiment).to(game.device, game.dtype)
    turn = Turn(0, "critic", 0, experiment.data.batch_size)
    (batch,) = streams.draw_batches(turn, experiment.family.latent, real.images, real.labels)
    loss, penalty = module(batch)
    loss.backward(retain_graph=True)
    penalty.backward()
    return torch.cat([weight.grad.flatten() for weight in player.net.parameters()])


def _diverged() -> str:
    """The error of a game in which the last rank alone has an infinite loss, with finite gradients, in round 3."""
    game = new_game(small("wgan"))
    critic = game.players["critic"]
    finite, last = critic.loss, ranks.rank() == ranks.world_size() - 1

    def loss(batch: Batch) -> Any:
        value, scalars = finite(batch)
        return (value + torch.inf if last and batch.turn.number == 2 * critic.steps + 1 else value), scalars

    critic.loss = loss
    try:
        for one in play(game, 6)[3:]:
            one.scalars()
    except DivergedError as error:
        return str(error)
    return ""


def ink(images: Tensor, labels: Tensor | None, real: Tensor) -> float:
    """A measure of one's own, which depends on the order of images and on a draw."""
    place = torch.linspace(0, 1, len(images))[:, None, None, None]
    asked = 0.0 if labels is None else float(labels.sum())
    return float((images.double() * place).mean() - real.double().mean() + torch.rand(())) + asked


def broken(images: Tensor, labels: Tensor, real: Tensor) -> float:
    raise RuntimeError("no such thing")


def _measured(real: Reference, *measures: str) -> dict[str, float]:
    names = [f"{__name__}:{name}" if name in ("ink", "broken") else name for name in measures]
    words = f"metrics.samples={FID_SAMPLES}", f"metrics.measures=[{','.join(names)}]"
    game = new_game(small("cgan", "compute.precision=fp64", *words))
    found = scores(game, real.with_features() if ranks.rank() == 0 else real)
    return {name: found[name] for name in measures}


def _unmeasured(real: Reference) -> str:
    """On every rank the error of a measure that fails on the first."""
    try:
        _measured(real, "broken")
    except MeasureError as error:
        return f"{error.measure}: {error}"
    return ""


def _batch_norm() -> dict[str, Tensor]:
    """One layer on this rank's slice of one batch: outputs, gradients of two orders, statistics."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, 5, 4, generator=draw, dtype=torch.float64)
    x += torch.arange(8).reshape(-1, 1, 1, 1)  # so that the ranks' own means are far apart
    towards = torch.randn(x.shape, generator=draw, dtype=torch.float64)
    share = slice(ranks.rank() * 8 // ranks.world_size(), (ranks.rank() + 1) * 8 // ranks.world_size())
    layer = (nets.GlobalBatchNorm(3) if ranks.world_size() > 1 else nn.BatchNorm2d(3)).double()
    layer.weight.data.copy_(torch.tensor([0.5, 1.0, 2.0]))
    layer.bias.data.copy_(torch.tensor([-1.0, 0.0, 3.0]))
    mine = x[share].clone().requires_grad_()
    out = layer(mine)
    loss = (out.tanh() * towards[share]).sum()
    (slope,) = torch.autograd.grad(loss, mine, create_graph=True)
    weights = (layer.weight, layer.bias)
    first = torch.autograd.grad(loss, weights, retain_graph=True)
    (curve,) = torch.autograd.grad(slope.square().sum(), mine)
    layer(mine.detach() * 2)
    found = {"out": out, "slope": slope, "curve": curve, "evaluated": layer.eval()(mine)}
    found |= {f"sum/{name}": value for name, value in zip(("weight", "bias"), first, strict=True)}
    found |= {f"same/{name}": value for name, value in layer.named_buffers()}
    return {name: value.detach().clone() for name, value in found.items()}
