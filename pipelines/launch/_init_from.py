"""`ganfleet train --init-from RUN|CHECKPOINT`: a new run that begins with the weights of another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_core.experiment import POINTS, Data
from gan_core.settings import SettingsError
from gan_core.settings.image_size import written_size
from pipelines.runs import INIT_FROM, find_checkpoint
from pipelines.settings import CommonSettings, TrainExperiment, storage_words

_OF_NETS = (
    "net",
    "latent",
    "z",
    "width",
    "critic_width",
    "critic_batch_norm",
    "minibatch_features",
    "encoder_batch_norm",
    "hidden",
    "labels",
    "critic",
    "channel_max",
    "mapping_layers",
)
"""Fields of families that say which weights the networks have, or what they map. Families of one's own may have others,
which are checked once the networks are built."""


@dataclass(frozen=True)
class InitialWeights:
    """The checkpoint that a new run begins from, and what it says of its game."""

    name: str
    """As the user typed it."""
    checkpoint: Path
    family: Mapping[str, Any]
    """The family's settings, `name` among them."""
    shape: Sequence[int]
    step: int

    @staticmethod
    def find(name: str, assignments: Sequence[str], config: Mapping[str, Any]) -> InitialWeights:
        """The checkpoint that RUN or CHECKPOINT names, in the storage that the command line says. Raises
        SettingsError."""
        given = {"storage": config["storage"]} if config.get("storage") else {}
        found = find_checkpoint(name, CommonSettings.load(given).override(*storage_words(assignments)).storage)
        try:
            about = json.loads((found / "checkpoint.json").read_bytes())
            family = about["experiment"]["family"]
            return InitialWeights(name, found.absolute(), family, about["shape"], about["step"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{found / 'checkpoint.json'} is damaged: {error}", nearest="another run") from None

    @property
    def image_size(self) -> int | str:
        """The size of the images that they are for, as `data.image_size` has it; the default of points."""
        return written_size(*self.shape[1:]) if len(self.shape) == 3 else Data().image_size

    @property
    def origin(self) -> dict[str, str]:
        """Tags of the new run that say where its weights come from."""
        return {INIT_FROM: str(self.checkpoint), "ganfleet.init_from": self.name, "ganfleet.init_step": str(self.step)}

    def check(self, experiment: TrainExperiment) -> None:
        """Raises SettingsError that names the setting in which the networks differ."""
        wanted, family, data = experiment.family.model_dump(mode="json"), self.family, experiment.data
        if wanted["name"] != family["name"]:
            raise self._misfit(f"family {wanted['name']}", f"a {family['name']}", f"ganfleet train {family['name']}")
        of_images, images = len(self.shape) == 3, data.name not in POINTS
        if of_images != images:
            kinds = ("images", "points") if of_images else ("points", "images")
            right = "a data set of images" if of_images else "data.name=ring8"
            raise self._misfit(f"data.name={data.name}, which is {kinds[1]},", f"for {kinds[0]}", right)
        if of_images and data.size != tuple(self.shape[1:]):
            right = f"data.image_size={self.image_size}"
            raise self._misfit(f"data.image_size={data.image_size}", f"for {right}", right)
        for field in _OF_NETS:
            if field in wanted and wanted[field] != family.get(field, wanted[field]):
                right = f"family.{field}={family[field]}"
                raise self._misfit(f"family.{field}={wanted[field]}", f"for {right}", right)

    def _misfit(self, wrong: str, theirs: str, nearest: str) -> SettingsError:
        return SettingsError(f"{wrong} does not fit --init-from {self.name}, whose weights are {theirs}", nearest)
