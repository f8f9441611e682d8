"""The stages of a config: what each of them guarantees, and that changes keep it."""

import dataclasses

import pytest

from dreambooth_ext.core.config import links, paths, stages
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.config.stages import CompletedConfig, ResolvedConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.facts.methods import METHOD_LABELS
from dreambooth_ext.core.guide import completion
from dreambooth_ext.core.runs import run_folder

ANSWERS = {
    "resolution": 64,
    "clip_skip": 1,
    "zero_terminal_snr": False,
    "gradient_checkpointing": False,
    "cache_latents": True,
    "prediction_type": "epsilon",
    "optimizer": "adamw",
    "device": "cpu",
    "mixed_precision": "no",
    "attention": "sdpa",
    "clip_grad_mode": "norm",
    "weight_precision": "fp32",
    "vae_tiling": "off",
    "frozen_precision": "bf16",
    "compile": "off",
    "offload": "off",
    "distribution": "ddp",
}


@pytest.fixture(params=METHOD_LABELS)
def completed(request):
    return completion.fill_in(RunConfig(method=request.param), 10)[0]


def test_what_the_guide_completes_holds_the_same_settings(completed):
    assert type(completed) is CompletedConfig
    assert RunConfig(**completed.as_dict()).as_dict() == completed.as_dict()
    assert stages.missing(completed) == []


def test_nothing_that_a_resolved_config_promises_is_open(completed):
    resolved = stages.resolved(completed, **ANSWERS)
    assert [name for name in ResolvedConfig.__annotations__ if getattr(resolved, name) is None] == []
    kept = [name for name, value in completed.as_dict().items() if value is not None and name not in ANSWERS]
    assert [name for name in kept if getattr(resolved, name) != getattr(completed, name)] == []


@pytest.mark.parametrize("left_out", sorted(ANSWERS))
def test_a_config_without_an_answer_is_not_resolved(left_out):
    completed, _ = completion.fill_in(RunConfig(), 10)
    answers = {name: value for name, value in ANSWERS.items() if name != left_out}
    with pytest.raises(ValueError, match=left_out):
        stages.resolved(completed, **answers)


def test_changes_keep_the_stage_and_its_promise(completed):
    resolved = stages.resolved(completed, **ANSWERS)
    for changed in (resolved.replace(seed=7), links.restored(resolved, []), paths.absolute(resolved)):
        assert type(changed) is ResolvedConfig
    with pytest.raises(ValueError, match="resolution"):
        resolved.replace(resolution=None)
    opened = stages.asked(completed, learning_rate=None)
    assert type(opened) is RunConfig and stages.missing(opened) == ["learning_rate"]


def test_configs_are_not_written_into():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 7


def test_a_run_whose_config_was_never_completed_is_refused(tmp_path):
    run = run_folder.create(tmp_path, RunConfig(name="cat", max_train_steps=3))
    with pytest.raises(UserError, match="it has no value for learning_rate") as caught:
        run.completed()
    assert caught.value.problem.field == "run"
    config = completion.fill_in(RunConfig(name="dog"), 10)[0]
    assert run_folder.create(tmp_path, config).completed() == config
