"""The global random generators: whether something draws from them, and which module it is."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

STREAMS = "streams.normal(batch.turn, 'purpose', like), of gan_core"
_INSTEAD: dict[type[nn.Module], str] = {
    nn.modules.dropout._DropoutNd: "with_dropout or GlobalDropout, of gan_core.techniques.noise",
}


def global_state() -> dict[str, Any]:
    """The states of the generators that a program shares, by whose they are."""
    found: dict[str, Any] = {"torch": torch.get_rng_state(), "random": random.getstate()}
    if "numpy" in sys.modules:
        kind, keys, *rest = sys.modules["numpy"].random.get_state()
        found["numpy"] = (kind, keys.tobytes(), *rest)
    return found


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Whose global generators are not as they were."""
    return [name for name, value in before.items() if not _equal(value, after[name])]


def _equal(one: Any, other: Any) -> bool:
    # Inside of torch.func a tensor has no bytes to read, but can be compared.
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


@contextmanager
def kept() -> Iterator[None]:
    """Leaves the caller's global generators, and the number of threads, as they were. Within, there is one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors are slower with several
    of_torch, of_random = torch.get_rng_state(), random.getstate()
    numpy = sys.modules.get("numpy")
    of_numpy = numpy.random.get_state() if numpy else None
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(of_torch)
        random.setstate(of_random)
        if numpy:
            numpy.random.set_state(of_numpy)


def seed_all(seed: int) -> None:
    """Sets all global generators."""
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)


class Drawing:
    """Finds the innermost modules that draw from a global generator, while its hooks are on."""

    def __init__(self, nets: Iterable[tuple[str, nn.Module]]) -> None:
        self.found: dict[str, str] = {}
        """What draws, with whose generator, and what to use instead."""
        self.blamed = 0
        """How often something was found."""
        self._stack: list[tuple[dict[str, Any], int]] = []
        self._hooks: list[Any] = []
        seen: set[nn.Module] = set()
        for root, net in nets:
            for name, module in net.named_modules():
                if module not in seen and name:  # the root is a player, whose loss is looked at apart
                    seen.add(module)
                    self._watch(module, f"{root}.{name}")

    def _watch(self, module: nn.Module, path: str) -> None:
        def begin(*_: Any) -> None:
            self._stack.append((global_state(), self.blamed))

        def end(*_: Any) -> None:
            before, blamed = self._stack.pop()
            whose = moved(before, global_state())
            if whose and self.blamed == blamed:
                self.blame(f"{path} ({type(module).__name__})", whose, module)

        self._hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]

    def blame(self, what: str, whose: list[str], module: nn.Module | None = None) -> None:
        """Notes that something draws."""
        instead = next((one for kind, one in _INSTEAD.items() if isinstance(module, kind)), STREAMS)
        self.blamed += 1
        generators = " and ".join(f"{name}'s" for name in whose)
        self.found.setdefault(f"{what} draws from {generators} global generator", instead)

    def end(self) -> None:
        """Takes the hooks off."""
        for hook in self._hooks:
            hook.remove()
