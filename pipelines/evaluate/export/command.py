"""`ganfleet export`: a checkpoint's averaged generator as one file, checked before it is written, with a model card."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gan_core import checkpoint
from gan_core.experiment import Experiment
from gan_core.loop import Game
from gan_core.metrics.statistics.reference import batch_of
from gan_core.settings import SettingsError
from infra.files import hidden_name, write_atomic
from infra.versions import version_of
from pipelines.evaluate.drawing import Drawing
from pipelines.evaluate.export._card import Card, written_card
from pipelines.evaluate.export._graph import INPUTS, NoGraphError, exported_program, onnx_model, output_name
from pipelines.evaluate.export_output import export_output

TOLERANCE = 1e-5
"""By which a sample of a file may differ from that of `ganfleet sample`."""
CHECKED, FEWEST = 64, 4
"""Samples that are compared, of images that are not large; by ONNX's own evaluator, which is written in Python."""
MOST_OPERATIONS = 10**9
"""That it may take: some seconds."""

Samples = Callable[[Tensor, Tensor | None], Tensor]
"""What draws: z (N, latent), and labels if the generator is conditional -> samples (N, *shape)."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    file: Path
    card: Path
    checked: str
    """How the file's samples compare with those of `ganfleet sample`."""


def export(folder: Path, to: str, out: Path | str | None = None, card: Path | None = None) -> Exported:
    """Writes the averaged generator of the checkpoint in `folder` to a file, and its model card.

    `to`: `onnx`, `torch` (an exported program) or `safetensors` (weights and settings). `out`: a file, with its card
    next to it unless `card` says where; or a folder, which ends with `/` or exists; None: a file in the working folder.
    Nothing is written of a generator whose file would draw other samples than `ganfleet sample`. Raises SettingsError
    that says why.
    """
    places = export_output(to, None if out is None else str(out))
    if places.file.startswith("s3://"):
        raise SettingsError(f"out={out} is not on a disk", nearest=f"ganfleet export NAME --to {to} --out {out}")
    file, card = Path(places.file), card or Path(places.card)
    game = checkpoint.open_game(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    with hidden_name(file) as aside:
        try:
            checked = {"onnx": _write_onnx, "torch": _write_torch, "safetensors": _write_safetensors}[to](game, aside)
        except NoGraphError as error:
            name = game.experiment.family.name
            right = "--to safetensors" if to != "safetensors" else "a generator whose samples depend on z alone"
            raise SettingsError(f"--to {to}: {name} has no such file: {error}", nearest=right) from None
        text = written_card(Card.of(folder, game, to, file.name, checked), card)
        aside.replace(file)
    write_atomic(card, text.encode())
    return Exported(file, card, checked)


def _write_torch(game: Game, file: Path) -> str:
    content = io.BytesIO()  # torch wants another name of a file that is not written yet
    torch.export.save(exported_program(game), content)
    file.write_bytes(content.getvalue())
    program = torch.export.load(io.BytesIO(content.getvalue())).module()
    return _checked(game, lambda z, labels: program(*_given(z, labels)), f"torch {torch.__version__}")


def _write_safetensors(game: Game, file: Path) -> str:
    checkpoint.save_generator(game, file)
    return _checked(game, checkpoint.open_generator(file).sample, "the generator rebuilt from it")


def _write_onnx(game: Game, file: Path) -> str:
    """In float32, because ONNX Runtime's convolutions on a CPU take neither bfloat16 nor float64."""
    exact = _in_float32(game)
    about = {"ganfleet": version_of("ganfleet"), "settings": checkpoint.described(game)}
    content = onnx_model(exact, about)
    file.write_bytes(content)
    count = _count(exact)
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        run, name = session.run, f"onnxruntime {metadata.version('onnxruntime')}"
    elif _operations(exact) * FEWEST <= MOST_OPERATIONS:
        from onnx.reference import ReferenceEvaluator

        run, name = ReferenceEvaluator(content).run, f"the reference evaluator of onnx {metadata.version('onnx')}"
        count = FEWEST
    else:
        return "not checked, for lack of onnxruntime"

    def samples(z: Tensor, labels: Tensor | None) -> Tensor:
        named = {name: value.numpy() for name, value in zip(INPUTS, _given(z, labels), strict=False)}
        return torch.from_numpy(run([output_name(game)], named)[0])

    checked = _checked(exact, samples, name, count)
    if game.experiment.compute.precision == "fp32":
        return checked
    own = _difference(game, lambda z, labels: samples(z.float(), labels), count)
    return f"{checked} in float32, and by at most {own:.1e} in compute.precision={game.experiment.compute.precision}"


def _in_float32(game: Game) -> Game:
    """The same averaged generator, whatever the arithmetic of its run."""
    values = game.experiment.model_dump(mode="json")
    values["compute"]["precision"] = "fp32"
    exact = Game(Experiment.load(values), game.shape, "cpu", game.classes, game.class_names)
    exact.average.load_state_dict(game.average.state_dict())
    return exact


def _checked(game: Game, samples: Samples, drawn_by: str, count: int | None = None) -> str:
    """Says what was compared, and how far apart. Raises NoGraphError if that is too far."""
    count = count or _count(game)
    difference = _difference(game, samples, count)
    if not difference <= TOLERANCE:  # it may be NaN
        raise NoGraphError(f"its samples by {drawn_by} differ by {difference:.1e} from those of `ganfleet sample`")
    how = "are" if difference == 0 else f"differ by at most {difference:.1e} from"
    return f"{count} samples by {drawn_by} {how} those of `ganfleet sample`"


def _difference(game: Game, samples: Samples, count: int) -> float:
    """The largest difference of a value of the first samples to that of `ganfleet sample`."""
    drawing = Drawing()
    z, labels = drawing.latents(game, "picture", 0, count), drawing.labels(game, 0, count)
    return float((samples(z, labels).double() - game.sample(z, labels).double()).abs().max())


def _count(game: Game) -> int:
    return min(CHECKED, batch_of(game.shape))


def _given(z: Tensor, labels: Tensor | None) -> tuple[Tensor, ...]:
    return (z,) if labels is None else (z, labels)


def _operations(game: Game) -> int:
    """Multiplications and additions for one sample."""
    with FlopCounterMode(display=False) as counter:
        Drawing().samples(game, 0, 1)
    return counter.get_total_flops()
