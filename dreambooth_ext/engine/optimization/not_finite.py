"""What is said of training whose numbers are no longer finite, and how they are written down."""

from __future__ import annotations

import math

from ...core.config.stages import ResolvedConfig
from ...core.errors import UserError
from ...core.messages.message import Message


def not_finite(config: ResolvedConfig, code: str, **values: float) -> UserError:
    """Return the error with everything that may help a run with these settings."""
    remedies = [Message("training.try_lower_rate")]
    if config.mixed_precision == "fp16":
        remedies.insert(0, Message("training.try_precision"))
    if config.snr_gamma is None:
        remedies.append(Message("training.try_snr_gamma"))
    remedies.append(Message("training.try_pictures"))
    return UserError(code, "learning_rate", remedies=remedies, **values)


def finite(number: float | None) -> float | None:
    """Return the number, or None if it is not finite: JSON has no infinity, and fp16 can overflow to it."""
    return number if number is not None and math.isfinite(number) else None
