"""The training loop: `rounds()` yields after each round of the game."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_

from gan_core import ranks, streams
from gan_core.experiment import Experiment, check_classes, check_labelled, nearest_part
from gan_core.health.divergence import Watch, gradient_norm
from gan_core.optimizers import guarded_step
from gan_core.recipe import Player, Shape, Turn
from gan_core.settings import SettingsError

DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Round:
    """A finished round. Its losses stay on the device until `scalars` reads them."""

    step: int
    """Rounds so far: updates of the generator, or of the only player."""
    images_seen: int
    losses: Mapping[str, Tensor]
    watch: Watch

    def scalars(self) -> dict[str, float]:
        """The round's losses, means over the global batch. All ranks must call this at the same round.

        Raises DivergedError if a number of the game is not finite, or was not in an earlier round.
        """
        return self.watch.read(self.losses, self.step)


class Game:
    """The state of an experiment in training: players, optimisers, running averages, step."""

    def __init__(
        self,
        experiment: Experiment,
        shape: Shape,
        device: torch.device | str = "cpu",
        classes: int = 1,
        class_names: Sequence[str] = (),
    ) -> None:
        """Builds the networks, from the seed alone, for samples of `shape` in `classes` classes (1: unlabelled).

        `class_names`: what the user calls the classes, in their order; empty if they have no names.
        Raises SettingsError if family, data and workers do not fit together.
        """
        self.experiment = experiment
        self.shape = shape
        self.classes = classes
        self.class_names = tuple(class_names)
        self.device = torch.device(device)
        self.dtype = DTYPES[experiment.compute.precision]
        self.step = 0
        _check_fits(experiment, classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(experiment.seed)
            recipe = experiment.family.recipe(shape, classes)
        self.players = {name: player.to(self.device, self.dtype) for name, player in recipe.players.items()}
        nets = {"generator": recipe.generator, "encoder": recipe.encoder, "classifier": recipe.classifier}
        self.current = {name: net.to(self.device, self.dtype) for name, net in nets.items() if net is not None}
        self.averages = {name: copy.deepcopy(net).requires_grad_(False).eval() for name, net in self.current.items()}
        self.optimizers = {name: player.optimizer() for name, player in self.players.items()}
        self.watch = Watch(self.players, self.optimizers, self.averages, self.device)
        self.rollbacks = 0
        """How often the game went back to a checkpoint because it had diverged."""
        self.rate_scale = 1.0
        """What all learning rates are multiplied by."""
        self.conditional, self.labelled = recipe.conditional, recipe.labelled
        self.images_per_round = recipe.images_per_round(experiment.data.batch_size)

    @property
    def generator(self) -> nn.Module:
        """The generator that is trained."""
        return self.current["generator"]

    @property
    def average(self) -> nn.Module:
        """The generator's running average."""
        return self.averages["generator"]

    @property
    def images_seen(self) -> int:
        """Real images shown so far."""
        return self.step * self.images_per_round

    @property
    def last_round(self) -> int:
        """The step at which the experiment's budget ends."""
        return self.experiment.budget.last_round(self.images_per_round)

    def sample(self, z: Tensor, labels: Tensor | None = None, *, psi: float | None = None) -> Tensor:
        """Samples of the averaged generator for z (N, latent): (N, *shape), images in [-1, 1].

        `labels` (N,), int64, are the classes to generate; None: row i has class i % classes. `psi` truncates w, for
        families that have w: at 1 nothing changes, at 0 all samples are the mean's. Raises ValueError if labels are
        given for a family that is not conditional, or psi for one without w.
        """
        if psi is not None and not self.experiment.family.truncates_w:
            raise ValueError(f"{self.experiment.family.name} has no w; nearest: psi=None")
        truncation = () if psi is None else (psi,)
        if not self.conditional:
            if labels is not None:
                raise ValueError(f"{self.experiment.family.name} knows no labels; nearest: labels=None")
            return self._average_of("generator", z, *truncation)
        if labels is None:
            labels = streams.labels_of(0, len(z), self.classes, z.device)
        return self._average_of("generator", z, labels, *truncation)

    def encode(self, images: Tensor) -> Tensor:
        """z (N, latent) of images (N, *shape), by the averaged encoder. `sample` of it gives their reconstructions.

        Raises ValueError if the family has no encoder.
        """
        return self._average_of("encoder", images)

    def classify(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, *shape), by the averaged classifier.

        Raises ValueError if the family has no classifier.
        """
        return self._average_of("classifier", images)

    @torch.no_grad()
    def _average_of(self, name: str, *given: Tensor | float) -> Tensor:
        if name not in self.averages:
            raise ValueError(f"{self.experiment.family.name} has no {name}; it has: {', '.join(self.averages)}")
        with self.autocast():
            return self.averages[name](*given).to(self.dtype)

    def autocast(self) -> torch.autocast:
        """The autocast context of the experiment's precision."""
        enabled = self.experiment.compute.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def scale_rates(self, scale: float) -> None:
        """Multiplies the learning rates that the settings give by `scale`."""
        self.rate_scale = scale
        self.set_schedules()

    def set_schedules(self) -> None:
        """Sets what the next round trains with, by the players' schedules: the learning rates of the settings, scaled,
        and Adam's beta2."""
        for name, optimizer in self.optimizers.items():
            rate, beta2 = self.players[name].rate, self.players[name].beta2
            scale = self.rate_scale * (1.0 if rate is None else rate(self.step))
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * scale
                if beta2 is not None:
                    group["betas"] = (group["betas"][0], beta2(self.step))

    @torch.no_grad()
    def update_average(self) -> None:
        """Updates the running averages after a round. The decay is smaller in the first rounds, as in TensorFlow."""
        ema = self.experiment.family.decay(self.images_per_round)
        decay = min(ema, (1 + self.step) / (10 + self.step)) if ema else 0.0
        for name, average in self.averages.items():
            torch._foreach_lerp_(_floats(average), _floats(self.current[name]), 1 - decay)


def _check_fits(experiment: Experiment, classes: int) -> None:
    family, settings, workers = experiment.family, experiment.data, ranks.world_size()
    if settings.batch_size % workers:
        right = max(settings.batch_size // workers, 1) * workers
        raise SettingsError(
            f"data.batch_size={settings.batch_size} cannot be shared by {workers} workers",
            nearest=f"data.batch_size={right}",
        )
    if settings.micro_batch is not None and settings.micro_batch % workers:
        right = nearest_part(settings.micro_batch, settings.batch_size, workers)
        raise SettingsError(
            f"data.micro_batch={settings.micro_batch} cannot be shared by {workers} workers",
            nearest=f"data.micro_batch={right}",
        )
    check_classes(family, settings, classes)


def _floats(net: nn.Module) -> list[Tensor]:
    """Parameters and floating-point buffers: BatchNorm's statistics, but not its counter."""
    return [tensor.detach() for tensor in (*net.parameters(), *net.buffers()) if tensor.is_floating_point()]


def rounds(game: Game, images: Tensor, labels: Tensor) -> Iterator[Round]:
    """Plays from the game's step to the end of its budget. Yields after each round, when the game may be saved.

    `images` (M, *shape) and `labels` (M,) are the whole train set on the game's device. In a process group each rank
    plays its slice of the same global batches. Raises SettingsError if the family needs more labels than there are.
    """
    labels = _visible_labels(game, labels)
    modules = {name: _distributed(player) for name, player in game.players.items()}
    while game.step < game.last_round:
        losses: dict[str, Tensor] = {}
        game.set_schedules()
        for name, player in game.players.items():
            _freeze_others(game, player)
            for step in range(player.steps):
                turn = Turn(
                    game.experiment.seed,
                    name,
                    game.step * player.steps + step,
                    game.experiment.data.batch_size,
                    game.step,
                )
                losses |= _play_turn(game, turn, modules[name], images, labels)
        game.step += 1
        game.update_average()
        yield Round(game.step, game.images_seen, losses, game.watch)


def _visible_labels(game: Game, labels: Tensor) -> Tensor:
    """The labels, those that the family hides replaced by -1."""
    if game.labelled is None:
        return labels
    check_labelled(game.labelled, len(labels))
    return streams.hide_labels(game.experiment.seed, labels, game.labelled)


def _play_turn(game: Game, turn: Turn, module: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """One optimiser step of one player. Returns its detached scalars by metric name."""
    name, settings, optimizer = turn.player, game.experiment, game.optimizers[turn.player]
    player = game.players[name]
    data, family = settings.data, settings.family
    batches = streams.draw_batches(
        turn, family.latent, images, labels, z=family.z, micro_batch=data.micro_batch, flip=data.flip
    )
    optimizer.zero_grad(set_to_none=True)
    passes: list[dict[str, Tensor]] = []
    for number, batch in enumerate(batches, start=1):
        with _gathering(module, is_last=number == len(batches)):
            with game.autocast():
                loss, scalars = module(batch)
            (loss if len(batches) == 1 else loss / len(batches)).backward()
        passes.append({f"loss/{name}": loss.detach(), **{key: value.detach() for key, value in scalars.items()}})
    seen = passes[0] if len(passes) == 1 else _means(passes)
    norm = gradient_norm(player)
    diverged = game.watch.see_turn(game.step + 1, name, seen[f"loss/{name}"], norm)
    if player.max_gradient_norm is not None:
        clip_grads_with_norm_(player.parameters(), player.max_gradient_norm, norm)
    guarded_step(optimizer, diverged)
    player.after_step()
    return seen


def _gathering(module: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
    """The gradients of all but a turn's last pass stay on their rank, so that a turn sends them once."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) and not is_last else nullcontext()


def _means(passes: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([one[key] for one in passes]).mean(dim=0) for key in passes[0]}


def _freeze_others(game: Game, player: Player) -> None:
    """Only the player whose turn it is gets gradients."""
    for other in game.players.values():
        other.requires_grad_(other is player)


def _distributed(player: Player) -> nn.Module:
    if ranks.world_size() == 1:
        return player
    player.requires_grad_(True)
    with warnings.catch_warnings():  # torch 2.15 renames `broadcast_buffers`; 2.11 does not know the new name
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(player, broadcast_buffers=False, gradient_as_bucket_view=True)
