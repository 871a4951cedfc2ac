"""`Experiment`: the frozen tree of settings that defines one game. It holds plain values only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from gan_core.family import Family, build_family
from gan_core.files import expanded
from gan_core.measures import Metrics, check_measurable
from gan_core.options import NO_AUGMENTATION, AugmentedFamily
from gan_core.settings import IMPORT_PATH, Settings, SettingsError, installed, unknown
from gan_core.settings.image_size import ImageSize, size_of

POINTS = ("ring8", "grid25")
STACKED_PREFIX = "stacked_"
STACKED = tuple(f"{STACKED_PREFIX}{name}" for name in ("digits", "mnist", "fashion_mnist"))
"""Sets of images whose channels are grey images of classes of their own, so that there are 1,000 modes."""
FETCHABLE = ("mnist", "fashion_mnist", "cifar10", "celeba", *STACKED[1:])
IMAGES_MAY_BE_DAMAGED = ("celeba", "lsun", "folder")
"""Sets with one file or database entry per image. Single images may be damaged, so `data.max_bad` applies."""
NEEDS_PATH = {"folder": "FOLDER", "npz": "FILE.npz", "packed": "FOLDER, or s3://bucket/prefix"}
"""Sets without a default location, and what `data.path` must name for each."""
TAKES_PATH = (*FETCHABLE, "lsun", *NEEDS_PATH)
DATA_NAMES = ("digits", *POINTS, "photos", STACKED[0], *TAKES_PATH)
LABELLED = ("digits", *POINTS, "photos", *STACKED, "mnist", "fashion_mnist", "cifar10")
"""Sets that always have several classes."""
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Rounds = Annotated[int, Field(ge=1)]


def nearest_part(part: int, whole: int, workers: int = 1) -> int:
    """The whole number nearest to `part` that divides `whole` and that workers can share."""
    parts = [one for one in range(workers, whole + 1, workers) if not whole % one]
    return min(parts, key=lambda one: abs(one - part))


class Data(Settings):
    """The real images, and how many make one global batch."""

    name: str = "digits"
    """The data set: mnist to lsun are read by torchvision, folder, npz and packed from `data.path`. Your own:
    package.module:name, a function that returns images, or images and labels."""
    image_size: ImageSize = 16
    """Side of square images in pixels, or height x width (64x128), each from 8 to 512; no meaning for points. The
    middle of an image is taken. Convolutional networks need sides that can be halved until one is small. If it is not
    given for folder, npz or packed, `ganfleet` takes a usual size up to the median of the images' shorter sides; for a
    data set of your own, the size that its images have."""
    batch_size: Annotated[int, Field(ge=2, le=2**20)] = 64
    """Images in the global batch: all workers together."""
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Images of the global batch in one forward pass; their gradients add up to one step. null: all of them."""
    held_out: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """Share of the real images that training never sees, for measures; the same images for every seed."""
    path: Path | str | None = None
    """Folder, .npz file, pack (or s3://bucket/prefix) or torchvision's root; null: `downloads` in the cache. Of a data
    set of your own `ganfleet` sets it: the pack of its images."""
    download: bool = False
    """Whether torchvision may download missing files."""
    flip: bool = False
    """Whether a random half of each batch is mirrored left to right; FID's real images never are."""
    max_bad: Annotated[int, Field(ge=0)] = 0
    """How many damaged images may be left out; more are an error."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        known = (*DATA_NAMES, *installed("datasets"))
        if name not in known:
            _check_no_place(name)
            if not IMPORT_PATH.fullmatch(name):
                raise SettingsError(unknown("data.name", name, known))
        return name

    @field_validator("path", mode="before")
    @classmethod
    def _absolute(cls, path: Any) -> Any:
        if isinstance(path, str) and path.startswith("s3://"):
            return path
        return expanded(path).absolute() if isinstance(path, str | Path) else path

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return size_of(self.image_size)

    @property
    def own(self) -> bool:
        """Whether the images are those of the user's function, `package.module:name` or an installed name."""
        return self.name not in DATA_NAMES

    @property
    def source(self) -> str:
        """The setting that says where the images are from."""
        return f"data.name={self.name}" if self.path is None or self.own else f"data.path={self.path}"

    @property
    def is_pack(self) -> bool:
        """Whether `path` is a pack. What the user's function returned becomes one."""
        return self.name == "packed" or (self.own and self.path is not None)

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Data:
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise SettingsError(
                f"data.micro_batch={self.micro_batch} does not divide data.batch_size={self.batch_size}",
                nearest=f"data.micro_batch={nearest_part(self.micro_batch, self.batch_size)}",
            )
        return self

    @model_validator(mode="after")
    def _all_apply(self) -> Data:
        if self.path is not None and self.name not in TAKES_PATH and not self.own:
            right = "npz" if str(self.path).endswith(".npz") else "folder" if isinstance(self.path, Path) else "packed"
            raise SettingsError(f"data.path has no meaning for data.name={self.name}", nearest=f"data.name={right}")
        if self.path is None and self.name in NEEDS_PATH:
            raise SettingsError(f"data.name={self.name} needs data.path", nearest=f"data.path={NEEDS_PATH[self.name]}")
        if isinstance(self.path, str) and not self.is_pack:
            raise SettingsError(f"data.path={self.path}: S3 holds packs", nearest="data.name=packed")
        if self.flip and self.name in POINTS:
            raise SettingsError(f"data.flip=true: {self.name} is points", nearest="data.flip=false")
        if self.download and self.name not in FETCHABLE:
            raise SettingsError(f"data.download=true: {self.name} cannot be fetched", nearest="data.download=false")
        if self.max_bad and self.name not in IMAGES_MAY_BE_DAMAGED:
            raise SettingsError(
                f"data.max_bad={self.max_bad}: {self.name} has no files that may be damaged", nearest="data.max_bad=0"
            )
        return self


def _check_no_place(name: str) -> None:
    """Raises SettingsError if a data set's name is a folder, a file, or an address of S3."""
    place, wrong = os.path.expanduser(name), f"data={name} is no data set but a place"
    if name.lower().startswith("s3:"):
        raise SettingsError(wrong, nearest=f"data=s3://{name[3:].lstrip('/')}")
    if "/" in name or os.path.exists(place):
        kind = "npz" if name.endswith(".npz") else "packed" if os.path.isfile(f"{place}/manifest.json") else "folder"
        raise SettingsError(wrong, nearest=f"data={kind} data.path={name}")


class Budget(Settings):
    """How long to train, and how often to log, evaluate and save. All but `images` count rounds (generator updates)."""

    rounds: Rounds | None = 1000
    """Length in rounds (generator updates)."""
    images: Annotated[int, Field(ge=1)] | None = None
    """Length in real images seen by the critic; without `rounds` it alone ends the game."""
    log_every: Rounds = 50
    """Rounds from one logged step to the next."""
    eval_every: Rounds = 200
    """Rounds from one evaluation to the next."""
    checkpoint_every: Rounds = 200
    """Rounds from one checkpoint to the next."""

    @model_validator(mode="before")
    @classmethod
    def _images_alone(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("images") is not None and "rounds" not in values:
            return {**values, "rounds": None}
        return values

    @model_validator(mode="after")
    def _ends(self) -> Budget:
        if self.rounds is None and self.images is None:
            raise SettingsError("budget.rounds=null with budget.images=null never ends", nearest="budget.rounds=1000")
        return self

    def last_round(self, images_per_round: int) -> int:
        """The round with which the game ends."""
        by_images = None if self.images is None else -(-self.images // images_per_round)
        return min(rounds for rounds in (self.rounds, by_images) if rounds is not None)


class Compute(Settings):
    """The arithmetic of the game. `pipelines` adds the settings of workers."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the game; auto: cuda where there is a GPU."""
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    """Number format; bf16: autocast in the networks, while weights, statistics and the penalty's norm stay float32."""


class Experiment(Settings):
    """One game: the same experiment gives the same weights for any number of workers."""

    seed: Seed = 0
    """Seed of initial weights, noise and the order of images."""
    family: Annotated[SerializeAsAny[Family], BeforeValidator(build_family)] = Field(examples=["wgan_gp"])
    """The kind of GAN or autoencoder, and its hyper-parameters."""
    data: Data = Data()
    """The real images."""
    budget: Budget = Budget()
    """The length of the game."""
    metrics: Metrics = Metrics()
    """How samples are measured."""
    compute: Compute = Compute()
    """Device and number format."""

    @model_validator(mode="after")
    def _family_plays_on_data(self) -> Experiment:
        check_family_fits(self.family, self.data)
        return self

    @model_validator(mode="after")
    def _can_be_measured(self) -> Experiment:
        check_measures(self.metrics, self.data)
        return self


def check_measures(metrics: Metrics, data: Data, classes: int | None = None, metric: str | None = None) -> None:
    """Raises SettingsError if a measure of `metrics`, or a search's `metric`, cannot be had of the data. `classes`: how
    many the data have, if that is known."""
    fits: dict[str, Any] = {"points": data.name in POINTS, "stacked": data.name in STACKED}
    classes = 2 if classes is None and data.name in LABELLED else classes
    for name in metrics.measures:
        check_measurable("metrics.measures", name, metrics, **fits, classes=classes, nearest="[]")
    if metric is not None:
        check_measurable("search.metric", metric, metrics, **fits, classes=classes, nearest="fid")


def check_family_fits(family: Family, data: Data) -> None:
    """Raises SettingsError if a family's networks do not take the data."""
    if data.name in POINTS and not family.plays_on_points():
        right = "family.net=mlp" if _takes(type(family), net="mlp") else "data.name=digits"
        raise SettingsError(f"{family.name} convolves images, data.name={data.name} is points", nearest=right)
    if data.name in POINTS and isinstance(family, AugmentedFamily) and family.augment != NO_AUGMENTATION:
        wrong = f"family.augment={family.augment} transforms images, data.name={data.name} is points"
        raise SettingsError(wrong, nearest=f"family.augment={NO_AUGMENTATION}")


def _takes(family: type[Family], **fields: Any) -> bool:
    try:
        family.load(fields)
    except SettingsError:
        return False
    return True


def check_classes(family: Family, data: Data, classes: int) -> None:
    """Raises SettingsError if the family needs labels and there is one class only."""
    if not family.needs_labels or classes > 1:
        return
    if "labels" in type(family).model_fields:
        wrong = f"family.labels=true: {data.source} has one class only"
        raise SettingsError(wrong, nearest="family.labels=false")
    if data.name in LABELLED:
        raise SettingsError(f"{family.name} needs labels, classes={classes}", nearest="classes=dataset.classes")
    right = {
        "folder": f"a folder for each class in {data.path}",
        "npz": f"an array 'labels' in {data.path}",
        data.name if data.own else "": f"{data.name} that returns (images, labels)",
    }
    nearest = right.get(data.name, "data.name=digits")
    raise SettingsError(f"{family.name} needs labels, {data.source} has one class only", nearest)


def check_labelled(labelled: int | None, images: int) -> None:
    """Raises SettingsError if a family is to see more labels than there are images. None: it sees all, or none."""
    if labelled is not None and labelled > images:
        raise SettingsError(f"family.labelled={labelled} of {images} images", nearest=f"family.labelled={images}")
