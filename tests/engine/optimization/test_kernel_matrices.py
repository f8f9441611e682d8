"""Kernels are matrices to Adafactor, whose state then takes next to nothing; states of earlier versions go on."""

from __future__ import annotations

import torch
from transformers.optimization import Adafactor

from dreambooth_ext.engine.optimization.kernel_matrices import with_matrices

OPTIONS = {"lr": 1e-3, "scale_parameter": False, "relative_step": False}


def test_a_kernel_is_stepped_as_the_matrix_that_it_is():
    draws = torch.Generator().manual_seed(1)
    values, gradients = torch.randn(8, 36, generator=draws), torch.randn(3, 8, 36, generator=draws)
    kernel, matrix = torch.nn.Parameter(values.view(8, 4, 3, 3).clone()), torch.nn.Parameter(values.clone())
    ours, plain = with_matrices(Adafactor)([kernel], **OPTIONS), Adafactor([matrix], **OPTIONS)
    for gradient in gradients:
        kernel.grad, matrix.grad = gradient.view(kernel.shape).clone(), gradient.clone()
        ours.step()
        plain.step()
    assert torch.equal(kernel.detach().view(8, 36), matrix.detach()) and kernel.grad.shape == (8, 4, 3, 3)
    assert ours.state[kernel]["exp_avg_sq_row"].shape == (8,) and not torch.equal(matrix.detach(), values)


def test_a_state_of_an_earlier_version_goes_on_as_it_was():
    kernel, plain = (torch.nn.Parameter(torch.ones(8, 4, 3, 3)) for _ in range(2))
    ours, before = with_matrices(Adafactor)([kernel], **OPTIONS), Adafactor([plain], **OPTIONS)
    for parameter in (kernel, plain):
        parameter.grad = torch.arange(288.0).view(8, 4, 3, 3)
    before.step()
    ours.load_state_dict(before.state_dict())
    kernel.data.copy_(plain.data)
    ours.step()
    before.step()
    assert ours.state[kernel]["exp_avg_sq_row"].shape == (8, 4, 3) and torch.equal(kernel, plain)
