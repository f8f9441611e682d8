"""What the guide fills in."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.guide import completion


@pytest.mark.parametrize("method", ["finetune", "unconditional"])
@pytest.mark.parametrize("together", [{"processes": 4}, {"device": "cuda:0,1,2,3"}, {"gradient_accumulation_steps": 4}])
def test_epochs_are_as_many_steps_as_the_pictures_of_all_processes_make(method, together):
    alone, several = (
        completion.fill_in(RunConfig(method=method, train_batch_size=2, **about), 100_000)[0].max_train_steps
        for about in ({}, together)
    )
    assert alone == 4 * several > 0
