"""Settings of what happens when a game diverges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gan_core.settings import Settings, SettingsError


class Reliability(Settings):
    """What happens when a number of a game is not finite."""

    on_divergence: Literal["stop", "rollback"] = "stop"
    """stop: the run ends; rollback: it goes back to its last checkpoint and continues with lower learning rates."""
    rollbacks: Annotated[int, Field(ge=1, le=1000)] = 3
    """How often a run rolls back; the next divergence ends it."""
    rollback_lr_factor: Annotated[float, Field(ge=1e-3, le=1.0)] = 0.5
    """What each rollback multiplies the learning rates of all players by."""

    @model_validator(mode="after")
    def _all_apply(self) -> Reliability:
        for name in ("rollbacks", "rollback_lr_factor"):
            value = getattr(self, name)
            if self.on_divergence == "stop" and value != Reliability.model_fields[name].default:
                raise SettingsError(
                    f"reliability.{name}={value} has no meaning with reliability.on_divergence=stop",
                    nearest="reliability.on_divergence=rollback",
                )
        return self
