"""The regions of a run on curves that are known."""

from __future__ import annotations

import math

import pytest

from dreambooth_ext.core.verdict import regions


def curve(learned, held=None, steps=None):
    steps = steps or [round(1000 * (n / (len(learned) - 1)) ** 1.5) for n in range(len(learned))]
    held = held or [None] * len(learned)
    return [
        {"step": step, "learned": {"low": own, "middle": own, "high": own}, "held": other}
        for step, own, other in zip(steps, learned, held, strict=True)
    ]


def falling(count: int, floor: float, speed: float) -> list[float]:
    return [floor + (1 - floor) * math.exp(-speed * n) for n in range(count)]


# On the demo's base: all weights without class pictures; 12 pictures, of which one is kept back
REAL_STEPS = [0, 19, 53, 97, 150, 210, 276, 347, 424, 506, 593, 684, 779, 879, 982, 1089, 1200]
REAL_LEARNED = [
    1,
    0.75,
    0.325,
    0.23,
    0.193,
    0.149,
    0.119,
    0.138,
    0.145,
    0.085,
    0.127,
    0.109,
    0.091,
    0.078,
    0.064,
    0.077,
    0.1,
]
REAL_HELD = [
    1,
    0.854,
    0.481,
    0.4,
    0.331,
    0.363,
    0.332,
    0.331,
    0.379,
    0.357,
    0.354,
    0.4,
    0.327,
    0.342,
    0.427,
    0.39,
    0.434,
]
# With class pictures, which keep it from learning by heart. Its pixels showed the subject in 29 % at step 80, in 86 %
# at 160 and in all from 240 on; of the run above in 86 % at 140
PRIOR_STEPS = [0, 9, 27, 49, 75, 105, 138, 174, 212, 253, 296, 342, 390, 439, 491, 545, 600]
PRIOR_LEARNED = [
    1.0,
    0.722,
    0.561,
    0.39,
    0.333,
    0.269,
    0.21,
    0.227,
    0.208,
    0.185,
    0.155,
    0.177,
    0.131,
    0.129,
    0.164,
    0.144,
    0.132,
]
PRIOR_HELD = [
    1.0,
    0.828,
    0.566,
    0.381,
    0.38,
    0.272,
    0.248,
    0.242,
    0.212,
    0.186,
    0.195,
    0.192,
    0.146,
    0.132,
    0.16,
    0.174,
    0.147,
]
# On three pictures, of which none is kept back
REAL_THREE = [1, 0.652, 0.384, 0.191, 0.132, 0.098, 0.101, 0.067, 0.069, 0.059, 0.045, 0.041]
THREE_STEPS = [0, 14, 40, 73, 112, 157, 207, 260, 318, 380, 445, 513]


def test_a_real_run_with_a_picture_kept_back():
    found = regions.of(curve(REAL_LEARNED, REAL_HELD, REAL_STEPS))
    assert (found.good, found.overfitting, found.is_sure) == (97, 982, True)
    early = regions.of(curve(REAL_LEARNED[:8], REAL_HELD[:8], REAL_STEPS[:8]))
    assert (early.good, early.overfitting, early.is_over) == (97, None, False)


def test_a_real_run_with_class_pictures():
    found = regions.of(curve(PRIOR_LEARNED, PRIOR_HELD, PRIOR_STEPS))
    assert (found.good, found.overfitting, found.is_over) == (253, None, False)


def test_a_real_run_on_three_pictures():
    found = regions.of(curve(REAL_THREE, None, THREE_STEPS))
    assert (found.good, found.overfitting, found.flat, found.is_sure) == (157, 513, 157, False)


def test_what_still_learns_has_no_region():
    numbers = [math.exp(-0.1 * index) for index in range(12)]
    found = regions.of(curve(numbers, [number**0.8 for number in numbers]))
    assert found.good is None is found.overfitting and found.is_sure


def test_what_learns_nothing_has_none_either():
    jitter = [1, 1.004, 0.997, 1.002, 0.999, 1.003, 0.998, 1.001]
    assert regions.of(curve(jitter)) == regions.Regions()
    assert regions.of(curve(jitter, jitter)).good is None


def test_flat_and_held_flat_is_good_to_the_end():
    found = regions.of(curve(falling(12, 0.8, 1.0), falling(12, 0.85, 1.0)))
    assert found.good is not None and found.overfitting is None and not found.is_over


@pytest.mark.parametrize("depth", [0.5, 0.9, 0.97])
def test_a_held_loss_that_turns_is_overfitting_however_deep_it_was(depth):
    """A base that knows nothing, and one that knows the subject nearly as well before."""
    held = [1 - (1 - depth) * share for share in (0, 0.5, 0.95, 1, 0.99, 0.98, 0.7, 0.5, 0.3)]
    found = regions.of(curve(falling(9, depth - 0.2, 0.7), held))
    steps = [one["step"] for one in curve(held)]
    assert found.good == steps[2] and found.overfitting == steps[6]


def test_one_outlier_is_none():
    held = [1, 0.6, 0.5, 0.5, 0.8, 0.5, 0.5, 0.5]
    assert regions.of(curve(falling(8, 0.45, 1.5), held)).overfitting is None


def test_pictures_that_gain_nothing_while_the_own_ones_do():
    """Then the run is good nowhere: it learns by heart from the start."""
    found = regions.of(curve(falling(10, 0.5, 0.5), [1, 1, 1.01, 1.05, 1.1, 1.1, 1.2, 1.2, 1.3, 1.3]))
    assert found.overfitting is not None and found.is_sure and found.is_over


def test_a_run_whose_loss_explodes_is_never_good():
    assert regions.of(curve([1, 1.5, 4, 9, 9, 9, 9, 9])).good is None


@pytest.mark.parametrize("numbers", [[], [1], [1, 0.5], [1, math.inf, 0.5, 0.4], [1, 0, 0.5, 0.4]])
def test_few_and_strange_numbers(numbers):
    assert regions.of(curve(numbers, steps=list(range(len(numbers)))) if numbers else []) == regions.Regions()


def test_the_regions_of_steps():
    def measured(*steps, **last):
        return [{"step": step} for step in steps[:-1]] + [{"step": steps[-1], "is_sure": True, **last}]

    known = measured(0, 10, 30, good=10, overfitting=20)
    assert [(one.begin, one.end, one.region) for one in regions.spans(known)] == [
        (0, 10, "learning"), (10, 20, "good"), (20, 30, "overfitting"),
    ]  # fmt: skip
    region = regions.by_step(known)
    assert [region(step) for step in (0, 9, 10, 20, 30, 31)] == [
        "learning", "learning", "good", "overfitting", "overfitting", None,
    ]  # fmt: skip
    still = regions.by_step(measured(0, 10, good=None, overfitting=None))
    assert (still(5), still(11)) == ("learning", None)
    guess = measured(0, 10, 30, good=10, overfitting=20, is_sure=False)
    assert regions.spans(guess)[-1].region == "guessed"
    assert regions.spans(known[:1]) == [] and regions.by_step([])(0) is None
