"""The same rounds by two processes, which must give the gradients, losses and tensors of one."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

import cloudpickle
import torch
import torch.distributed as dist
from torch import Tensor, nn

from gan_core.experiment import Experiment
from gan_core.loop import Game
from gan_core.nets import GlobalBatchNorm
from gan_core.recipe import Shape
from gan_core.settings import raised
from gan_core.testing.contract import ONE_BACKWARD
from gan_core.testing.fault import Fault
from gan_core.testing.games import differing
from gan_core.testing.randomness import STREAMS, seed_all
from gan_core.testing.record import Record, record

TOLERANCE = 1e-9
_SECONDS = 120


def played_by_two(
    experiment: Experiment, shape: Shape, classes: int, images: Tensor, labels: Tensor, rounds: int
) -> list[Record] | Fault:
    """The record of each of two processes, or what stops them.

    They are forks of a server that has imported torch, so each check after the first starts them at once.
    """
    context = multiprocessing.get_context("forkserver")
    # Every optimiser imports torch._dynamo when it is made.
    context.set_forkserver_preload(["gan_core.testing.two_ranks", "torch._dynamo"])
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        torch.save((images, labels), folder / "data")
        given = cloudpickle.dumps((experiment, shape, classes, rounds))
        ranks = [context.Process(target=_work, args=(rank, folder, given), daemon=True) for rank in range(2)]
        with _without_main():
            for one in ranks:
                one.start()
        try:
            _wait(ranks)
        finally:
            for one in ranks:
                one.kill()
                one.join()
        errors = [file.read_text() for file in sorted(folder.glob("error-*"))]
        if errors:
            # The other rank only says that it lost this one.
            error = next((one for one in errors if "connection" not in one.lower()), errors[0])
            return Fault("workers", f"it plays alone, but not as two workers: {error}", _mend(error))
        if not all((folder / f"record-{rank}").exists() for rank in range(2)):
            wrong = f"it plays alone, but two workers were not done in {_SECONDS} s"
            return Fault("workers", wrong, "call the same functions of gan_core.ranks on all ranks, in the same order")
        # Written by this program a moment ago, so pickle may read it.
        return [torch.load(folder / f"record-{rank}", weights_only=False) for rank in range(2)]


@contextmanager
def _without_main() -> Iterator[None]:
    """A process that starts now does not run the caller's program once more: it needs nothing of it."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _wait(ranks: Sequence[BaseProcess]) -> None:
    """Until all have ended. If one fails the other has a few seconds more."""
    last = time.monotonic() + _SECONDS
    while any(one.is_alive() for one in ranks) and time.monotonic() < last:
        if any(one.exitcode for one in ranks):
            last = min(last, time.monotonic() + 5)
        for one in ranks:
            one.join(0.02)


def _work(rank: int, folder: Path, given: bytes) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the same game has shown them in the caller's process
    seed_all(rank + 17)  # what a program's own generators have is another on each rank
    timeout = timedelta(seconds=_SECONDS)
    try:
        dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timeout)
        experiment, shape, classes, rounds = cloudpickle.loads(given)
        images, labels = torch.load(folder / "data")
        game = Game(experiment, shape, classes=classes)
        found = record(game, images, labels, rounds)
        torch.save(found, folder / f"record-{rank}")
    except Exception as error:  # a family may raise anything
        (folder / f"error-{rank}").write_text(raised(error))
        os._exit(1)  # the other rank waits for this one otherwise


def _mend(error: str) -> str:
    if "SyncBatchNorm" in error:
        return "GlobalBatchNorm, of gan_core.nets, which takes CPU tensors too"
    if "finished reduction" in error or "marked as ready" in error:
        return ONE_BACKWARD
    return "losses are computed on each rank's share of the batch; gan_core.ranks has sums over ranks"


def disagreements(game: Game, one: Record, two: list[Record]) -> Iterator[Fault]:
    """Where two workers do not play the game that one plays: the first turn whose gradient differs, and its cause."""
    normalisers = list(_own_normalisers(game))
    for number, (player, wanted) in enumerate(one.grads):
        first, second = two[0].grads[number][1], two[1].grads[number][1]
        apart = [key for key in wanted if key in first and not torch.equal(first[key], second[key])]
        wrong = [key for key in wanted if key in first and _distance(first[key], wanted[key], wanted) > TOLERANCE]
        if not apart and not wrong:
            continue
        turn = f"in turn {number + 1}, of {player},"
        if normalisers:
            yield from normalisers
        elif apart:
            what = f"{turn} the gradients of two workers differ from each other, first that of {apart[0]}"
            yield Fault("workers", what, ONE_BACKWARD)
        elif all(_distance(2 * first[key], wanted[key], wanted) <= TOLERANCE for key in wanted):
            what = f"{turn} two workers have half of the gradient of one: the loss is a sum over the batch"
            yield Fault("workers", what, "a mean: sum(...) / len(batch.real)")
        else:
            key = max(wrong, key=lambda key: _distance(first[key], wanted[key], wanted))
            off = _distance(first[key], wanted[key], wanted)
            what = f"{turn} two workers have another gradient than one: that of {key} is off by {off:.1e}"
            yield Fault("workers", what, _OVER_ALL)
        return
    for number, losses in enumerate(one.losses):
        for key, value in losses.items():
            if abs(two[0].losses[number][key] - value) > TOLERANCE * max(1.0, abs(value)):
                what = f"in round {number + 1} two workers log {key}={two[0].losses[number][key]:.6g}, one {value:.6g}"
                yield Fault("workers", what, "log means over the batch")
                return
    yield from _states(one, two, normalisers)


def _states(one: Record, two: list[Record], normalisers: list[Fault]) -> Iterator[Fault]:
    last, first, second = one.states[-1], two[0].states[-1], two[1].states[-1]
    unlike = differing(first, second)
    wrong = [key for key in last if not torch.allclose(first[key].double(), last[key].double(), rtol=1e-7, atol=1e-9)]
    if not unlike and not wrong:
        return
    if normalisers:
        yield from normalisers
        return
    name = (unlike or wrong)[0]
    what = f"{name} is not the same on two workers" if unlike else f"{name} is another with two workers than with one"
    yield Fault("workers", f"after {len(one.losses)} rounds {what}", _OVER_ALL)


_OVER_ALL = (
    "what is computed over a batch goes over all ranks (ranks.mean, ranks.differentiable_mean, ranks.gathered, of"
    f" gan_core), and what is drawn is drawn for all ({STREAMS})"
)


def _distance(found: Tensor, wanted: Tensor, whole: dict[str, Tensor]) -> float:
    """The largest difference of two gradients of a weight, in units of the whole gradient's largest number."""
    largest = max(float(one.abs().max()) for one in whole.values())
    return float((found - wanted).abs().max()) / (largest or 1.0)


def _own_normalisers(game: Game) -> Iterator[Fault]:
    """Modules that normalise over a rank's own share of the batch."""
    seen: set[int] = set()
    for root, net in (*game.players.items(), *game.current.items()):
        for path, module in net.named_modules():
            kinds = nn.modules.batchnorm._BatchNorm
            if isinstance(module, kinds) and not isinstance(module, GlobalBatchNorm) and id(module) not in seen:
                seen.add(id(module))
                wrong = f"{root}.{path} is a {type(module).__name__}: each worker normalises over its own images"
                mend = "GlobalBatchNorm, of gan_core.nets" if _is_2d(module) else _NOT_2D
                yield Fault("workers", wrong, mend)


_NOT_2D = "LayerNorm; or GlobalBatchNorm, of gan_core.nets, on images (N, C, H, W)"


def _is_2d(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
