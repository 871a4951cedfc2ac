"""`compute`: how many workers share each global batch, and what each of them takes."""

from __future__ import annotations

import math
import os
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from gan_core.experiment import Compute as CoreCompute
from gan_core.experiment import Data
from gan_core.files import expanded
from gan_core.settings import SettingsError

Workers = Annotated[int, Field(ge=1, le=4096)]


class Compute(CoreCompute):
    """How many workers share each global batch, and what each of them takes."""

    workers: Workers = 1
    """Worker processes; each takes an equal part of every global batch."""
    min_workers: Workers | None = None
    """A training run that lost a machine continues with at least this many workers, to the same results; null: it waits
    until all are back."""
    gpus: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """GPUs for each worker: 1, or less where one-worker trials share a GPU (0.25: four of them); null: 1 if there are
    as many GPUs as workers."""
    cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPUs for each worker; null: an equal share of this machine, or one on a cluster that RAY_ADDRESS names."""
    ship: tuple[Path, ...] = ()
    """Your own modules, for all nodes and jobs: the folder that they lie in (`src`), the file of one, or a list of
    both."""

    @field_validator("ship", mode="before")
    @classmethod
    def _absolute(cls, given: Any) -> Any:
        places = given if isinstance(given, list | tuple) else [] if given is None else [given]
        if any(not isinstance(one, str | Path | int) or one == "" for one in places):
            raise SettingsError(f"compute.ship={given} names no folder", nearest="compute.ship=src")
        return tuple(Path(os.path.abspath(expanded(str(one)))) for one in places)

    @property
    def fewest(self) -> int:
        """The number of workers below which a run waits."""
        return self.workers if self.min_workers is None else self.min_workers

    @model_validator(mode="after")
    def _fewest_of_all(self) -> Compute:
        if self.fewest > self.workers:
            raise SettingsError(
                f"compute.min_workers={self.min_workers} is more than compute.workers={self.workers}",
                nearest=f"compute.min_workers={self.workers}",
            )
        return self

    @model_validator(mode="after")
    def _gpus_apply(self) -> Compute:
        if self.gpus and self.device == "cpu":
            raise SettingsError(
                f"compute.gpus={self.gpus:g} has no meaning with compute.device=cpu", nearest="compute.device=cuda"
            )
        if self.gpus == 0 and self.device == "cuda":
            raise SettingsError("compute.device=cuda needs a GPU, compute.gpus=0", nearest="compute.gpus=1")
        if self.gpus and self.gpus < 1 and self.workers > 1:
            raise SettingsError(
                f"compute.gpus={self.gpus:g} is a share of one GPU, on which compute.workers={self.workers} of the same"
                " game cannot meet",
                nearest="compute.gpus=1",
            )
        return self


def check_batch_fits(batch: int, compute: Compute, images: int) -> None:
    """Raises SettingsError if a batch is more than all images to train on."""
    if batch <= images or images < 2:
        return
    right = images - images % math.lcm(*range(compute.fewest, compute.workers + 1))
    raise SettingsError(
        f"data.batch_size={batch} is more than the {images} images to train on",
        nearest=f"data.batch_size={right}" if right > 1 else "compute.workers=1",
    )


def check_equal_batches(data: Data, compute: Compute) -> None:
    """Every number of workers that the run may have must divide the batch. Raises SettingsError."""
    batch, counts = data.batch_size, range(compute.fewest, compute.workers + 1)
    if not any(batch % count for count in counts):
        return
    common = math.lcm(*counts)
    right = max(round(batch / common), 1) * common
    fewer, nearest = "", f"data.batch_size={right}"
    if batch % compute.workers == 0:
        fewer = f", nor by what may be left of them with compute.min_workers={compute.fewest}"
        if right > 2 * batch:
            fitting = takewhile(lambda count: batch % count == 0, reversed(counts))
            nearest = f"compute.min_workers={min(fitting)}"
    raise SettingsError(
        f"data.batch_size={batch} cannot be shared equally by compute.workers={compute.workers}{fewer}", nearest
    )
