"""A run's options beside its config, as requested: publishing, selecting, and the host's models during training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...core.errors import UserError
from ...core.runs.job_options import JobOptions

if TYPE_CHECKING:
    from ..hosts.host import Host

ASKED = ("publish", "intermediate", "select", "while_training")  # of what is left out, the host's options count


def options_for(host: Host, asked: Mapping[str, Any], before: JobOptions | None = None) -> JobOptions:
    """A run's options: as requested, else as before, else as the host's options say."""
    chosen = before or JobOptions(**{name: host.option(name) for name in ASKED})
    given = {name: value for name, value in asked.items() if value is not None}
    for name in ("publish", "intermediate"):
        if not isinstance(given.get(name, True), bool):
            raise UserError("web.not_flag", name)
    for name in ("select", "while_training"):
        if not isinstance(given.get(name, ""), str):
            raise UserError("web.not_choice", name)
    return chosen.but(**given)
