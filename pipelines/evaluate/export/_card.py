"""The model card of an exported generator: Markdown below a YAML head, in the form of Hugging Face's hub."""

from __future__ import annotations

import json
import math
import platform
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gan_core import checkpoint
from gan_core.family import place_of_net
from gan_core.loop import Game
from gan_core.settings import SettingsError, by_path, parse_yaml
from infra.versions import version_of
from pipelines.evaluate.export._graph import output_name
from pipelines.runs import INIT_FROM, DataRecord, RunPaths, measured_with, named_classes
from pipelines.settings import TrainExperiment

LIBRARY = "ganfleet"
"""By which a card is known as one of ours."""
LICENCE = ("license", "license_name", "license_link")
"""What the user says at the head of a card."""
SHOWN = 16
"""Samples that the example draws."""


@dataclass(frozen=True)
class Card:
    """What is known of an exported generator."""

    game: Game
    to: str
    file: str
    """The name of its file."""
    checked: str
    run: RunPaths | None
    """The folder of its run or trial; None if the checkpoint lies elsewhere."""
    whole: RunPaths | None
    """The folder of the run, or of the search that the trial is of."""
    about: Mapping[str, Any]
    """What the checkpoint says of itself."""

    @staticmethod
    def of(folder: Path, game: Game, to: str, file: str, checked: str) -> Card:
        """The card of the generator of the checkpoint in `folder`."""
        run = RunPaths(folder.parent.parent)
        if folder.parent.name != "checkpoints" or not run.experiment.is_file():
            return Card(game, to, file, checked, None, None, checkpoint.describe(folder))
        whole = run
        while whole.path.parent.name == "trials" or whole.path.name == "confirm":
            whole = RunPaths(whole.path.parents[whole.path.parent.name == "trials"])
        return Card(game, to, file, checked, run, whole, checkpoint.describe(folder))

    def text(self, licence: Mapping[str, Any]) -> str:
        """The whole card. `licence`: what the user said of it, by the names of `LICENCE`."""
        head = yaml.safe_dump({**(licence or {LICENCE[0]: "unknown"}), **self._head()}, sort_keys=False)
        if not licence:
            head = head.replace("\n", "  # yours to say: https://huggingface.co/docs/hub/repositories-licenses\n", 1)
        rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in self._rows().items() if value)
        return "\n".join(
            [
                f"---\n{head}---\n",
                f"# {self._name}\n",
                f"{self._kind}, trained by ganfleet.\n",
                f"| | |\n|---|---|\n{rows}\n",
                f"## Use it\n\n{self._needs}\n\n```python\n{self._example}\n```\n",
                f"## Train it again\n\n{self._again}\n",
                f"## Settings\n\n```yaml\n{self._settings}```\n",
            ]
        )

    @property
    def _name(self) -> str:
        return self.game.experiment.family.name if self.whole is None else self.whole.path.name

    @property
    def _kind(self) -> str:
        if not self._images:
            return "A generator of points"
        channels, height, width = self.game.shape
        colour = "grey" if channels == 1 else "colour"
        return f"A generator of {colour} images, {height} pixels high and {width} wide"

    @property
    def _images(self) -> bool:
        return output_name(self.game) == "images"

    def _head(self) -> dict[str, Any]:
        task = {"type": "unconditional-image-generation"}
        tags = ["gan", self.game.experiment.family.name, self.to]
        found: dict[str, Any] = {"library_name": LIBRARY, "tags": tags}
        if self._images:
            found["pipeline_tag"] = task["type"]
        fid, _ = self._fid()
        if fid is not None:
            name = self.game.experiment.data.name
            metric = {"type": "fid", "name": "FID", "value": fid}
            result = {"task": task, "dataset": {"type": name, "name": name}, "metrics": [metric]}
            found["model-index"] = [{"name": self._name, "results": [result]}]
        return found

    def _rows(self) -> dict[str, str]:
        game = self.game
        return {
            "family": f"`{game.experiment.family.name}`",
            "trained": f"{game.step} generator updates, {game.images_seen} real images",
            "data": self._data(),
            "classes": named_classes(game.class_names) if game.conditional else "",
            "FID": self._fid_row(),
            "confirmed": self._confirmed(),
            "file": f"`{self.file}`: {self.checked}",
            "checkpoint": f"sha256 `{self.about['sha256']}`",
            "versions": f"ganfleet {version_of('ganfleet')}, Python {platform.python_version()}, trained with torch"
            f" {self.about['torch']}",
        }

    def _data(self) -> str:
        name = self.game.experiment.data.name
        record = None if self.whole is None else DataRecord.read(self.whole)
        return name if record is None else f"{name}: {record}; digest `{record.digest}`"

    def _fid(self) -> tuple[float | None, int]:
        """The last FID up to the checkpoint's step, and the step at which it was measured."""
        rows = [] if self.run is None else self.run.rows()
        known = [row for row in rows if row["step"] <= self.game.step and math.isfinite(row.get("fid", math.nan))]
        return (known[-1]["fid"], int(known[-1]["step"])) if known else (None, 0)

    def _fid_row(self) -> str:
        fid, step = self._fid()
        if fid is None or self.whole is None:
            return ""
        about = measured_with(self.whole)
        by = ", ".join(f"{name.replace('_', ' ')} `{value}`" for name, value in about.items())
        return f"{fid:.4f} at step {step}{f'; measured with: {by}' if by else ''}"

    def _confirmed(self) -> str:
        """What a search found of the settings over fresh seeds, if this is its winner."""
        best = None if self.whole is None else self.whole.best.with_suffix(".json")
        if best is None or not best.is_file():
            return ""
        found = json.loads(best.read_text())
        if found.get("sd") is None or not str(found["checkpoint"]).startswith(self._inside()):
            return ""
        name = next(key.removeprefix("seed_") for key in found if key.startswith("seed_"))
        shown = "FID" if name == "fid" else name
        return f"{shown} {found[name]:.4f} ± {found['sd']:.4f} (seeds {', '.join(map(str, found['seeds']))})"

    def _inside(self) -> str:
        assert self.run is not None
        assert self.whole is not None
        return f"{self.run.path.relative_to(self.whole.path)}/"

    @property
    def _needs(self) -> str:
        scale = ", in [-1, 1]" if self._images else ""
        drawn = "N(0, I)" if self.game.experiment.family.z == "normal" else "-1 to 1, uniform"
        takes = f"`z` (N, latent) from {drawn}" + (" and `label` (N,), int64" if self.game.conditional else "")
        family = self.game.experiment.family
        places = (type(family).__module__, place_of_net(str(getattr(family, "net", ""))) or "gan_core")
        own = sorted({re.split(r"[.:]", place)[0] for place in places} - {"gan_core"})
        packages = {"onnx": "onnxruntime", "torch": "torch", "safetensors": "ganfleet"}[self.to]
        more = "".join(f" and `{name}`" for name in own) if self.to == "safetensors" else ""
        return f"It maps {takes} to `{output_name(self.game)}` (N, ...){scale}. It needs `{packages}`{more}."

    @property
    def _example(self) -> str:
        game, name = self.game, output_name(self.game)
        file = json.dumps(self.file, ensure_ascii=False)
        latent, labelled, shape = game.experiment.family.latent, game.conditional, (SHOWN, *game.shape)
        uniform = game.experiment.family.z == "uniform"
        if self.to == "onnx":
            given = '{"z": z, "label": label}' if labelled else '{"z": z}'
            opened = f"import numpy as np\nimport onnxruntime\n\ngenerator = onnxruntime.InferenceSession({file})"
            random = "np.random.default_rng(0)"
            z = f"z = {random}.standard_normal(({SHOWN}, {latent}), dtype=np.float32)"
            if uniform:
                z = f"z = 2 * {random}.random(({SHOWN}, {latent}), dtype=np.float32) - 1"
            label = f"label = np.arange({SHOWN}) % {game.classes}"
            drawn = f"({name},) = generator.run(None, {given})"
        else:
            size = f"({SHOWN}, {latent}, dtype={game.dtype})"
            z = f"z = 2 * torch.rand{size} - 1" if uniform else f"z = torch.randn{size}"
            label = f"label = torch.arange({SHOWN}) % {game.classes}"
            given = "(z, label)" if labelled else "(z)"
            opened, drawn = {
                "torch": (
                    f"import torch\n\ngenerator = torch.export.load({file}).module()",
                    f"{name} = generator{given}",
                ),
                "safetensors": (
                    "import torch\n\nfrom gan_core.checkpoint import open_generator\n\n"
                    f"game = open_generator({file})  # game.average is the generator, a torch module",
                    f"{name} = game.sample{given}",
                ),
            }[self.to]
        return "\n".join([opened, z, *([label] if labelled else []), f"{drawn}  # {shape}"])

    @property
    def _again(self) -> str:
        if not self.game.step:
            return "It was not trained."
        if self.run is not None and self.run.lineage.is_file():
            return "Its search copied weights between trials, so no single command trains it."
        words = ["ganfleet", "train", self.game.experiment.family.name, *self._words()]
        origin = {} if self.whole is None or not self.whole.identity.is_file() else self.whole.origin
        if INIT_FROM in origin:
            words += ["--init-from", origin[INIT_FROM]]
        return f"```shell\n{shlex.join(words)}\n```"

    def _words(self) -> list[str]:
        """The settings that are not the default, up to the checkpoint's step."""
        values = dict(self.about["experiment"])
        if self.run is not None:
            values["reliability"] = parse_yaml(self.run.experiment.read_text()).get("reliability") or {}
        budget = {**values["budget"], "rounds": self.game.step, "images": None}
        experiment = TrainExperiment.load({**values, "budget": budget})
        plain = TrainExperiment.load({"family": {"name": experiment.family.name}})
        own, default = (by_path(one.model_dump(mode="json")) for one in (experiment, plain))
        return [
            f"{path}={_typed(value)}"
            for path, value in own.items()
            if (path not in default or default[path] != value) and not path.startswith(("name", "storage", "tracking"))
        ]

    @property
    def _settings(self) -> str:
        return yaml.safe_dump(self.about["experiment"], sort_keys=False)


def written_card(card: Card, file: Path) -> str:
    """The text of a card that is to be written to a file. The licence that the user wrote there stays. Raises
    SettingsError if the file is no card of ours."""
    if not file.is_file():
        return card.text({})
    try:
        head = yaml.safe_load(file.read_text().split("---\n")[1])
        if head["library_name"] != LIBRARY:
            raise ValueError
    except (ValueError, IndexError, KeyError, TypeError, yaml.YAMLError):
        raise SettingsError(f"{file} is no model card of ganfleet", nearest="another name for --out") from None
    return card.text({name: head[name] for name in LICENCE if name in head and head[name] != "unknown"})


def _cell(text: str) -> str:
    """A text as a cell of a table; names of classes may have any character."""
    return " ".join(text.replace("|", "\\|").split())


def _typed(value: Any) -> str:
    """As one types it: a text, or a number, a truth, nothing or a list, which YAML and JSON write alike."""
    return value if isinstance(value, str) else json.dumps(value)
