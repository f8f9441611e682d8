"""What each process holds of a run by ZeRO's stages 1 and 2."""

from __future__ import annotations

# Numbers that are sent at a time, for which there is a buffer; DeepSpeed's own 500 million would take 2 GB
BUCKET = 50_000_000


def held(numbers: int, state: float, count: int) -> float:
    """Return the bytes of weights and state between steps: the whole model, the part of it that this process steps,
    and the state of that, all in float32. numbers: that learn; state: bytes for each; count: processes."""
    return numbers * (4 + (4 + state) / count)


def gradients(numbers: int, stage: int, count: int) -> tuple[float, float]:
    """Return the bytes of gradients at the end of the backward pass, and at their most after it.

    In stage 2 they are sent during the pass, in a buffer, and laid into one tensor for the step, beside what it is made
    of. In stage 1 all are there at its end, and are then sent, while this process's part of them is made.
    """
    part, buffers = 4 * numbers / count, 2 * 4 * BUCKET
    if stage == 1:
        return 4.0 * numbers, 4 * numbers + part + buffers
    return part + buffers, 2 * part
