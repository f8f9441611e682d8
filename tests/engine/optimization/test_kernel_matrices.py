"""Kernels are matrices to Adafactor and CAME, whose states are small then; states of earlier versions go on."""

from __future__ import annotations

import copy

import torch
from came_pytorch import CAME
from transformers.optimization import Adafactor

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine.optimization.kernel_matrices import with_matrices
from dreambooth_ext.engine.optimization.optimizer_creation import load_state, make_optimizer

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


def test_came_sees_kernels_as_matrices_too_and_its_state_is_four_bytes_a_number():
    draws = torch.Generator().manual_seed(1)
    values, gradients = torch.randn(8, 36, generator=draws), torch.randn(3, 8, 36, generator=draws)
    kernel, matrix = torch.nn.Parameter(values.view(8, 4, 3, 3).clone()), torch.nn.Parameter(values.clone())
    config = RunConfig(optimizer="came", weight_decay=0.0)
    ours = make_optimizer(config, [{"name": "unet", "params": [kernel], "rate": 1e-3}])
    plain = CAME([matrix], lr=1e-3)
    for gradient in gradients:
        kernel.grad, matrix.grad = gradient.view(kernel.shape).clone(), gradient.clone()
        ours.step()
        plain.step()
    assert torch.equal(kernel.detach().view(8, 36), matrix.detach()) and not torch.equal(matrix.detach(), values)
    kept = ours.state[kernel]
    assert kept["exp_avg_sq_row"].shape == kept["exp_avg_res_row"].shape == (8,)
    again = torch.nn.Parameter(kernel.detach().clone())
    resumed = make_optimizer(config, [{"name": "unet", "params": [again], "rate": 1e-3}])
    load_state(resumed, copy.deepcopy(ours.state_dict()))
    for parameter, optimizer in ((kernel, ours), (again, resumed)):
        parameter.grad = gradients[0].view(kernel.shape).clone()
        optimizer.step()
    assert torch.equal(kernel, again)


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
