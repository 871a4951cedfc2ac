"""What a family keeps outside of its networks' parameters and buffers: a checkpoint does not hold it."""

from __future__ import annotations

import functools
import hashlib
import random
from collections import deque
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from gan_core.loop import Game
from gan_core.settings import place

_DEEPEST = 6
_NOT_THE_USERS = ("torch", "gan_core", "pydantic", "builtins", "abc", "typing")
_OF_PYDANTIC = ("model_config", "model_fields", "model_computed_fields", "_abc_impl")
_OF_MODULES = set(vars(nn.Module())) | {"_optimizer", "loss", "after_step", "optimizer_of", "rate", "beta2", "net"}


def hidden_state(game: Game) -> dict[str, str]:
    """A digest of each value that the losses of a game can see and that no checkpoint holds, by where it is."""
    walk = _Walk(game)
    for name, player in game.players.items():
        for path, module in player.named_modules():
            walk.attributes(module, f"{name}.{path}" if path else name)
    for name, player in game.players.items():
        for function in (player.loss, player.after_step, player.rate, player.beta2):
            walk.value(function, name, 0)
    return walk.found


class _Walk:
    def __init__(self, game: Game) -> None:
        self.found: dict[str, str] = {}
        self._seen: set[int] = {id(optimizer) for optimizer in game.optimizers.values()}
        self._alive: list[Any] = []  # an id is a value's own only while the value lives
        nets = (*game.players.values(), *game.current.values(), *game.averages.values())
        self._registered = {id(module) for net in nets for module in net.modules()}
        self._saved = {id(one) for net in nets for one in net.state_dict(keep_vars=True).values()}

    def attributes(self, module: nn.Module, path: str) -> None:
        """A module's plain attributes, and its buffers that are not saved."""
        for name, value in vars(module).items():
            if name not in _OF_MODULES:
                self.value(value, f"{path}: attribute {name!r} of {type(module).__name__}", 0)
        self._class(type(module), path, 0)
        for name in module._non_persistent_buffers_set:
            self.value(module._buffers[name], f"{path}: buffer {name!r} with persistent=False", 0)

    def value(self, value: Any, path: str, depth: int) -> None:
        """Notes a value, or what it consists of."""
        if value is None or depth > _DEEPEST or isinstance(value, type | ModuleType):
            return
        leaf = _digest(value)
        if leaf is not None:
            if not (isinstance(value, Tensor) and id(value) in self._saved):
                self.found[path] = leaf
            return
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._alive.append(value)
        if isinstance(value, nn.Module):
            self._module(value, path)
        elif isinstance(value, torch.optim.Optimizer):
            self.value(value.state_dict(), f"{path}: an optimizer", depth + 1)
        elif isinstance(value, Mapping):
            self.found[path] = f"{len(value)}"
            for key, one in value.items():
                self.value(one, f"{path}[{key!r}]", depth + 1)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            self.found[path] = f"{len(value)}"
            for number, one in enumerate(value):
                self.value(one, f"{path}[{number}]", depth + 1)
        elif isinstance(value, FunctionType):
            self._function(value, path, depth)
        elif isinstance(value, MethodType):
            self.value(value.__self__, path, depth + 1)
            self.value(value.__func__, path, depth + 1)
        elif isinstance(value, functools.partial):
            for one in (value.func, value.args, value.keywords):
                self.value(one, path, depth + 1)
        elif hasattr(value, "__dict__"):
            private = (value.__pydantic_private__ or {}) if isinstance(value, BaseModel) else {}
            for name, one in {**vars(value), **private}.items():
                self.value(one, f"{path}.{name}", depth + 1)
            self._class(type(value), path, depth)

    def _class(self, kind: type, path: str, depth: int) -> None:
        """What the methods of a user's class can see, and the values that all of its objects share."""
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] in _NOT_THE_USERS or id(base) in self._seen:
                continue
            self._seen.add(id(base))
            for name, one in vars(base).items():
                plain = one.__func__ if isinstance(one, staticmethod | classmethod) else one
                if isinstance(plain, FunctionType):
                    self._function(plain, path, depth + 1)
                elif not name.startswith("__") and name not in _OF_PYDANTIC:
                    self.value(plain, f"{path}.{name}", depth + 1)

    def _module(self, module: nn.Module, path: str) -> None:
        if id(module) in self._registered:
            return
        for name, one in module.named_modules():
            self._registered.add(id(one))
            self.attributes(one, f"{path}.{name}" if name else path)
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if id(tensor) not in self._saved:
                self.found[f"{path}.{name}"] = _digest(tensor) or ""

    def _function(self, function: FunctionType, path: str, depth: int) -> None:
        code = function.__code__
        where = f"{path}: {{}} of {function.__name__} ({place(code.co_filename, code.co_firstlineno)})"
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not yet set
                continue
            self.value(content, where.format(f"variable {name!r}"), depth + 1)
        for number, one in enumerate(function.__defaults__ or ()):
            self.value(one, where.format(f"default {number}"), depth + 1)
        if (function.__module__ or "").partition(".")[0] in _NOT_THE_USERS:
            return
        for name in code.co_names:
            if name in function.__globals__:
                self.value(function.__globals__[name], where.format(f"global {name!r}"), depth + 1)


def _digest(value: Any) -> str | None:
    """A value's digest; None if it consists of others."""
    if isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous()
        return "tensor" + hashlib.sha256(content.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
    if isinstance(value, torch.Generator):
        return hashlib.sha256(value.get_state().numpy().tobytes()).hexdigest()
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, random.Random):
        return hashlib.sha256(repr(value.getstate()).encode()).hexdigest()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return hashlib.sha256(repr(value.get_state()).encode()).hexdigest()
    return None
