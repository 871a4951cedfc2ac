"""A generator as a graph, without its Python code: `torch.export`'s, and ONNX's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from gan_core import streams
from gan_core.loop import Game

if TYPE_CHECKING:
    import onnx

INPUTS = ("z", "label")
"""What a generator takes: z (N, latent), and the classes (N,) as int64 if it is conditional."""
_ROWS = 3
"""With so many rows torch traces the generator, which takes any number later."""


class NoGraphError(ValueError):
    """torch or ONNX has no graph of the generator, with the reason in one line."""


def output_name(game: Game) -> str:
    """What a generator draws."""
    return "images" if len(game.shape) == 3 else "points"


def exported_program(game: Game) -> torch.export.ExportedProgram:
    """The averaged generator as torch's exported graph, for any number of rows. It draws `Game.sample`'s bits.

    Raises NoGraphError.
    """
    given = _inputs(game)
    try:
        with torch.no_grad():
            program = torch.export.export(_Sampled(game), given, dynamic_shapes=_any_rows(given))
            same = torch.equal(program.module()(*given), game.sample(*given))
    except Exception as error:  # torch raises errors of many kinds for what it cannot trace
        raise _no_graph(error) from error
    if not same:
        raise NoGraphError("its graph draws other samples")
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it has paths of this machine's files
    return program


def onnx_model(game: Game, about: Mapping[str, str]) -> bytes:
    """The averaged generator as an ONNX model in the arithmetic of the weights, for any number of rows.

    `about`: what the model says of itself. Raises NoGraphError.
    """
    given = _inputs(game)
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            net = _folded(torch.export.export(game.average, given, dynamic_shapes=_any_rows(given)))
            program = torch.onnx.export(
                net,
                given,
                input_names=INPUTS[: len(given)],
                output_names=[output_name(game)],
                dynamic_shapes=tuple({0: "batch"} for _ in given),
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            model = program.model_proto
        _say_only(model, about)
        return model.SerializeToString()
    except Exception as error:  # torch raises errors of many kinds for what it cannot translate, onnx beyond 2 GB
        raise _no_graph(error) from error


class _Sampled(nn.Module):
    """The averaged generator as `Game.sample` calls it."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.net, self.autocast, self.dtype = game.average, game.autocast, game.dtype

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        with self.autocast():
            return (self.net(z) if label is None else self.net(z, label)).to(self.dtype)


def _inputs(game: Game) -> tuple[Tensor, ...]:
    family = game.experiment.family
    z = streams.latents(0, "export", 0, _ROWS, family.latent, game.device, game.dtype, family.z)
    return (z, streams.labels_of(0, _ROWS, game.classes, game.device)) if game.conditional else (z,)


def _any_rows(given: Sequence[Tensor]) -> tuple[dict[int, Any], ...]:
    return tuple({0: torch.export.Dim.DYNAMIC} for _ in given)


def _folded(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The graph with all that depends on weights alone computed once. Of the operators for it ONNX lacks some, such as
    the eigenvectors of an autoencoder's covariance."""
    module = program.module()
    graph = module.graph
    known: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            known[node] = attrgetter(node.target)(module)
        elif node.op == "call_function" and node.all_input_nodes and known.keys() >= {*node.all_input_nodes}:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **kwargs)
    for node, value in known.items():
        if node.op == "call_function" and isinstance(value, Tensor) and not known.keys() >= node.users.keys():
            module.register_buffer(f"folded_{node.name}", value.contiguous())
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(f"folded_{node.name}"))
    graph.eliminate_dead_code()
    module.recompile()
    return module


def _say_only(model: onnx.ModelProto, about: Mapping[str, str]) -> None:
    """Replaces what the model says of the code that it was made from, with the paths of its files, by `about`."""
    from onnx.helper import set_model_props

    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    for function in model.functions:
        for part in (function, *function.node, *function.value_info):
            del part.metadata_props[:]
    set_model_props(model, dict(about))


def _no_graph(error: BaseException) -> NoGraphError:
    """With the first line of what was raised first: the errors on top of it say where it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    return NoGraphError(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")
