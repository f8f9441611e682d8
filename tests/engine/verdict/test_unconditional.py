"""The distance of an unconditional model's pictures from the training pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dreambooth_ext.engine.verdict.unconditional import frechet_distance


def sample(mean: float, spread: float, count: int = 4000) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(mean, spread, (count, 3)))


def test_the_distance_of_normal_distributions_in_closed_form():
    """Of independent directions: the squared differences of means and of standard deviations, added up."""
    first, second = sample(0, 1), sample(2, 3)
    means = (first.mean(0) - second.mean(0)).square().sum()
    spreads = (first.std(0) - second.std(0)).square().sum()
    assert frechet_distance(first, second) == pytest.approx(float(means + spreads), rel=0.02)


def test_no_distance_from_itself():
    assert frechet_distance(sample(1, 2), sample(1, 2)) == pytest.approx(0, abs=1e-6)
