"""Bases of the families whose networks are chosen by name."""

from __future__ import annotations

from typing import Any

from pydantic import ModelWrapValidatorHandler, model_validator

from gan_core.family import IMAGE_NETS, Family, Net, Width

_WIDTHS = {"width", "critic_width"}


class WidthOfNetFamily(Family):
    """Base of families whose width, unless it is given, is that of the net."""

    @model_validator(mode="wrap")
    @classmethod
    def _width_of_net(cls, values: Any, handler: ModelWrapValidatorHandler[WidthOfNetFamily]) -> WidthOfNetFamily:
        """The width does not count as set, so that another net brings its own."""
        given = values if isinstance(values, dict) else {}
        width = cls.width_of(str(given.get("net", cls.model_fields["net"].default)))
        missing = {name for name in _WIDTHS - given.keys() if getattr(cls.model_fields.get(name), "default", None)}
        filled = {} if width is None else dict.fromkeys(missing, width)
        family = handler({**given, **filled} if filled else values)
        family.model_fields_set.difference_update(filled)
        return family

    @classmethod
    def width_of(cls, net: str) -> int | None:
        """The width of a net; None where it is the family's default."""
        return 64 if net == "infogan" else None


class NetFamily(WidthOfNetFamily):
    """Base of families that play any networks."""

    net: Net = "auto"
    width: Width = 32

    def plays_on_points(self) -> bool:
        return self.net not in IMAGE_NETS


class BatchNormFamily(NetFamily):
    """Base of families whose critic may have BatchNorm, as all of "Are GANs Created Equal?" may (Lucic et al. 2018)."""

    critic_batch_norm: bool = False
    """Whether infogan's critic has BatchNorm; it scores real and fake samples separately then."""

    def without_meaning(self) -> dict[str, tuple[str, str]]:
        own = {} if self.net == "infogan" else {"critic_batch_norm": ("net", "infogan")}
        return super().without_meaning() | own
