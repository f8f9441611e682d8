"""How often a run measures itself: never at more than 2 % of its time."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.verdict import measuring
from dreambooth_ext.core.verdict.measuring import FEWEST, MOST, Sizes, planned, without_word
from dreambooth_ext.core.verdict.words import subject_words


def config(**settings) -> RunConfig:
    return RunConfig(**{"gradient_checkpointing": False, "measure_progress": True, **settings})


CASES = [
    *({"steps": steps, "method": method, "gradient_checkpointing": checkpointing}
      for steps in (100, 300, 1000, 2000, 20_000)
      for method in ("dreambooth", "lora")
      for checkpointing in (True, False)),
    {"steps": 600, "method": "dreambooth", "train_batch_size": 4, "classes": 64},
    {"steps": 5000, "method": "unconditional", "train_batch_size": 16},
    {"steps": 300, "method": "textual_inversion", "gradient_accumulation_steps": 8},
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("held", [0, 2])
def test_the_cost(case, held):
    """Less than 2 %, in forward passes: 3 for a step that trains all weights and 2 for another, 1 more to
    checkpoint."""
    case = dict(case)
    steps, classes = case.pop("steps"), case.pop("classes", 0)
    made = planned(config(**case), steps, pictures=20, held=held, classes=classes)
    each = (3 if case["method"] in ("dreambooth", "unconditional") else 2) + case.get("gradient_checkpointing", False)
    pictures = (
        steps * case.get("train_batch_size", 1) * case.get("gradient_accumulation_steps", 1) * (2 if classes else 1)
    )
    sizes = made.sizes
    passes = len(made.steps) * (sizes.learned + sizes.held) + 2 * sizes.drift
    passes += len(made.whole) * (sizes.classes + sizes.drift + sizes.word)
    assert passes <= 0.02 * each * pictures and made.share == pytest.approx(passes / (each * pictures), abs=1e-4)
    if made.steps:
        assert FEWEST <= len(made.steps) <= MOST and made.steps[0] == 0 and made.steps[-1] == steps
        assert made.sizes.learned and not made.sizes.learned % 3 and bool(made.sizes.classes) <= bool(classes)
        assert bool(made.sizes.held) <= bool(held)
        assert {0, steps} <= made.whole <= set(made.steps) and len(made.whole) <= len(made.steps) // 3 + 2
    else:
        assert 0.0195 * each * pictures < FEWEST * 3


def test_a_guides_run_has_everything():
    """20 pictures of a face, 2000 steps with class pictures on a card; 12 pictures, 1200 steps of a LoRA."""
    long = planned(config(gradient_checkpointing=True), 2000, pictures=18, held=2, classes=200)
    assert min(vars(long.sizes).values()) > 1 and len(long.steps) >= 10
    short = planned(config(method="lora", gradient_checkpointing=True), 1200, pictures=11, held=1, classes=0)
    assert short.sizes.held and short.sizes.drift and short.sizes.word


@pytest.mark.parametrize("steps", [800, 1000, 1200, 1500])
@pytest.mark.parametrize("method", ["dreambooth", "lora"])
def test_a_usual_run_is_measured_often_enough(method, steps):
    """12 pictures of which one is kept back, with gradient checkpointing; with class pictures there is room for all."""
    made = planned(config(method=method, gradient_checkpointing=True), steps, pictures=11, held=1, classes=0)
    assert len(made.steps) >= 10 and made.sizes.drift
    rich = planned(config(gradient_checkpointing=True), steps, pictures=11, held=1, classes=100)
    assert len(rich.steps) >= 10 and min(vars(rich.sizes).values()) > 0


def test_a_short_lora_run_is_measured_a_few_times():
    assert len(planned(config(method="lora"), 320, pictures=12, held=0, classes=0).steps) == 4
    assert len(planned(config(method="lora"), 500, pictures=12, held=0, classes=0).steps) >= 4


def test_short_runs_and_those_that_do_not_want_it_have_none():
    assert planned(config(), 100, pictures=12, held=0, classes=0).steps == ()
    assert planned(config(measure_progress=False), 5000, pictures=12, held=1, classes=0).steps == ()
    assert planned(config(train_batch_size=8), 200, pictures=1, held=0, classes=0).steps == ()  # batches of one


def test_steps_are_denser_at_the_start():
    steps = planned(config(), 3000, pictures=12, held=1, classes=0).steps
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert gaps == sorted(gaps) and gaps[0] < 3000 / len(steps) / 2


def test_a_run_that_goes_on_longer_keeps_its_pictures():
    first = planned(config(), 1000, pictures=12, held=1, classes=0)
    longer = planned(config(), 1500, pictures=12, held=1, classes=0, sizes=first.sizes)
    assert longer.sizes == first.sizes and longer.steps[-1] == 1500
    assert planned(config(), 1500, pictures=12, held=1, classes=0, sizes=Sizes()).steps == ()


# --- texts


def entries(folder: Path, names: list[str], captions: list[str] | None = None, **settings):
    for index, name in enumerate(names):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.png").write_bytes(b"")
        if captions:
            (folder / f"{name}.txt").write_text(captions[index], encoding="utf-8")
    made = RunConfig(instance_data_dir=str(folder), **settings)
    subjects = Subjects.of(made)
    found, problems = picture_entries.entries(made, subjects)
    assert not problems
    return made, subjects.concepts, found


@pytest.mark.parametrize(
    ("names", "captions", "settings", "text", "words"),
    [
        (["a (1)"], None, {"instance_prompt": "a photo of sksper person", "class_prompt": "a photo of a person"},
         "a photo of a person", {"sksper"}),
        (["a (1)"], None, {"instance_prompt": "a photo of sksper person"}, "a photo of person", {"sksper"}),
        (["zkz (1)"], ["a big zkz figure, at night"],
         {"instance_prompt": "[filewords]", "class_prompt": "[filewords]", "use_captions": True},
         "a big figure, at night", {"zkz"}),
        (["zkz (1)"], None, {"instance_prompt": None}, "", {"zkz"}),
        (["a (1)"], ["a cat"], {"method": "finetune", "instance_prompt": None, "use_captions": True}, None, set()),
        (["a (1)"], None, {"method": "hypernetwork", "instance_prompt": "sksper person"}, None, set()),
        (["a (1)"], None,
         {"method": "textual_inversion", "instance_prompt": "a photo of [name]", "placeholder_token": "sksper",
          "initializer_token": "woman"}, "a photo of woman", {"sksper"}),
    ],
)  # fmt: skip
def test_the_caption_without_the_word(tmp_path, names, captions, settings, text, words):
    made, concepts, (entry,) = entries(tmp_path / "pictures", names, captions, **settings)
    found = subject_words(made, concepts, [entry])
    assert without_word(made, entry, concepts[0], found) == text
    assert words <= set(found)


def test_unrelated_prompts_are_the_users_own_without_the_word():
    made = config(validation_prompts=["a photo of sksper on a hill", "a red circle"])
    assert measuring.unrelated_prompts(made, ["Sksper"], 2) == ["a red circle", measuring.UNRELATED[0]]
    assert measuring.unrelated_prompts(made, (), 2) == list(measuring.UNRELATED[:2])
