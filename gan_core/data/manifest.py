"""The manifest of a pack: a JSON file that lists its shards. It is written last, so an incomplete pack has none."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan_core.experiment import Data
from gan_core.settings import SettingsError
from gan_core.settings.image_size import ImageSize, size_of

MANIFEST = "manifest.json"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Shard(BaseModel):
    """One .npy file of a pack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z]+(-[0-9a-z]+)*\.npy$")]
    """Contains part of the digest, so that shards with different contents have different names."""
    sha256: Digest
    size: Annotated[int, Field(ge=1)]
    """Size in bytes."""
    images: Annotated[int, Field(ge=1)]


class Manifest(BaseModel):
    """A dataset's images, in the order of the dataset, cut into shards, and their labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    """Name of the dataset that was packed."""
    images: Annotated[int, Field(ge=2)]
    classes: Annotated[int, Field(ge=1)]
    class_names: tuple[str, ...] = ()
    """What the user calls the classes, in their order; empty if they have no names, as in packs of earlier versions."""
    channels: Literal[1, 3]
    image_size: ImageSize
    """Side of square images in pixels, or height x width."""
    values: Literal["uint8", "float32"]
    """Bytes 0..255, or floats in [-1, 1] for a dataset that is not made of bytes."""
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    """Each an array (n, channels, height, width)."""
    labels: Shard
    """int64 (images,)."""
    content: str = ""
    """sha256 of all fields above, the shards' digests included. Packs with equal contents have equal values."""

    @model_validator(mode="after")
    def _a_name_each(self) -> Manifest:
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(f"{len(self.class_names)} names of {self.classes} classes")
        return self

    @model_validator(mode="before")
    @classmethod
    def _with_content(cls, values: Any) -> Any:
        if isinstance(values, dict) and "content" not in values:
            known = cls.model_validate({**values, "content": ""})
            return {**values, "content": known.content_hash()}
        return values

    def content_hash(self) -> str:
        """The value that `content` must have."""
        rest = {name: value for name, value in self._values().items() if name != "content"}
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    def _values(self) -> dict[str, Any]:
        """The fields as JSON has them. Names that do not exist are left out, as in packs of earlier versions."""
        return self.model_dump(mode="json", exclude=None if self.class_names else {"class_names"})

    @property
    def files(self) -> tuple[Shard, ...]:
        """All files except the manifest."""
        return (*self.shards, self.labels)

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images together."""
        return (self.images, self.channels, *size_of(self.image_size))

    def to_json(self) -> bytes:
        """The file's content: the same bytes for the same pack."""
        return json.dumps(self._values(), indent=1).encode() + b"\n"

    @staticmethod
    def from_json(content: bytes) -> Manifest:
        """Reads what `to_json` wrote. Raises ValueError with one line for anything else."""
        try:
            found = Manifest.model_validate({"content": "", **json.loads(content)})
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(" ".join(str(error).split())) from None
        if found.content != found.content_hash() or sum(one.images for one in found.shards) != found.images:
            raise ValueError("its content hash does not match")
        return found

    def check(self, settings: Data) -> None:
        """Raises SettingsError if the images have another size than the settings say."""
        if settings.image_size != self.image_size:
            raise SettingsError(
                f"data.image_size={settings.image_size}, but data.path={settings.path} holds images of"
                f" {self.image_size}",
                nearest=f"data.image_size={self.image_size}",
            )
