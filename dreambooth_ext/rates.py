"""Learning rates as users write them: a number, or the WebUI's "2e-6:1000, 1e-6"."""

from __future__ import annotations

import math

EXAMPLE = "'2e-6:1000, 1e-6' is 2e-6 for the first 1000 steps, then 1e-6"


def parse_rate_schedule(text: str | float) -> list[tuple[float, int | None]]:
    """(rate, step that it ends at) in order; only the last may have None, which is the end of the run.

    As in the WebUI, the first pair "2e-6:1000" covers the steps 1 to 1000, and the step -1 is the end of the run.
    Raises ValueError with a sentence for the user.
    """
    pairs: list[tuple[float, int | None]] = []
    for pair in str(text).split(","):
        if not pair.strip():
            continue
        rate, _, step = pair.partition(":")
        if pairs and pairs[-1][1] is None:
            raise ValueError(f"'{pair.strip()}' is never reached: the rate before it has no step. {EXAMPLE}.")
        until = _step(step.strip(), pair) if ":" in pair else None
        if until is not None and until <= (pairs[-1][1] if pairs else 0):
            raise ValueError(
                f"step {until} in '{pair.strip()}' must be above 0 and above the one before it. {EXAMPLE}."
            )
        pairs.append((_rate(rate.strip(), pair), until))
    if not pairs:
        raise ValueError(f"has no rate in it. {EXAMPLE}.")
    return pairs


def _rate(text: str, pair: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise ValueError(f"'{text}' in '{pair.strip()}' is not a number. {EXAMPLE}.") from None
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"the rate {text} in '{pair.strip()}' must be 0 or more, and finite.")
    return rate


def _step(text: str, pair: str) -> int | None:
    try:
        step = int(text)
    except ValueError:
        raise ValueError(f"'{text}' in '{pair.strip()}' is not a whole number of steps. {EXAMPLE}.") from None
    return None if step == -1 else step
