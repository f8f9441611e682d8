"""The guide's numbers: pictures, steps, learning rates, minutes and test prompts, by subject type and method."""

from __future__ import annotations

from ..messages.message import Message

# (least, best from, best to, most) pictures for each type of subject
PICTURES = {"person": (5, 10, 20, 25), "style": (15, 20, 30, 40), "object": (10, 15, 25, 30), "pet": (10, 15, 20, 25)}

# Steps by number of pictures, as (fewer than, (from, to)); the last row also holds for more. Pets count as objects.
_OBJECT_STEPS = ((10, (1000, 1200)), (15, (1200, 1500)), (20, (1500, 1800)), (30, (1800, 2200)))
STEPS = {
    "person": ((10, (1200, 1500)), (15, (1500, 1800)), (20, (1800, 2200)), (30, (2000, 2500))),
    "style": ((10, (2000, 2500)), (15, (2500, 3000)), (20, (3000, 3500)), (30, (3500, 4000))),
    "object": _OBJECT_STEPS,
    "pet": _OBJECT_STEPS,
}
TEXT_ENCODER_STEPS = {"person": 350, "style": 500, "object": 300, "pet": 300}
TEXT_ENCODER_SHARE = 0.25  # of the UNet's steps at most, where the run is shorter than the guide's

LEARNING_RATE = 2e-6
TEXT_ENCODER_LR = 1e-6
LORA_RANK = 16
LORA_RATE, LORA_TEXT_RATE = 1e-4, 5e-5  # diffusers' README for DreamBooth with LoRA; kohya's for text encoders
HYPERNETWORK_RATE, HYPERNETWORK_STEPS = 1e-5, 10_000  # the WebUI's Train tab; usual for it at this rate
FINETUNE_RATE = 1e-5  # diffusers' README for text-to-image
FINETUNE_EPOCHS = 10
FINETUNE_LEAST_STEPS = 1600  # kohya's default
# diffusers' README for textual inversion: 5e-4 for each of the 4 pictures of a step, 3000 steps; the WebUI's is 5e-3
EMBEDDING_RATE, EMBEDDING_STEPS = 2e-3, 3000
PIVOTAL_RATE = 5e-4  # of a word along with a LoRA: https://github.com/cloneofsimo/lora
EMBEDDING_VECTORS = {"person": 4, "style": 8, "object": 4, "pet": 4}
EMBEDDING_SHARE = 0.5  # of a LoRA's steps, --train_text_encoder_ti_frac of diffusers' advanced training script
INITIAL_WORDS = {"person": "person", "style": "style", "object": "object", "pet": "animal"}
UNCONDITIONAL_RATE, UNCONDITIONAL_EPOCHS = 1e-4, 100  # diffusers' train_unconditional.py
UNCONDITIONAL_LEAST_STEPS = 5000  # from nothing: fewer show hardly more than colours
EMA_INV_GAMMA, EMA_POWER = 1.0, 0.75  # diffusers' train_unconditional.py
OFFSET_NOISE = {"style": 0.1}
PRIOR_IMAGES = (100, 200)

# Minutes for 1500 steps of one picture at 512, as (from, to), by a part of the card's name
MINUTES = {"T4": (25, 35), "V100": (10, 15), "A100": (5, 8), "RTX 4090": (8, 12)}
TIMED_STEPS, TIMED_RESOLUTION = 1500, 512

TEST_PROMPTS = {
    "person": (
        "{} person, professional portrait, studio lighting",
        "{} person wearing sunglasses, outdoor",
        "{} person as a superhero, digital art",
        "{} person, oil painting style",
        "{} person in medieval armor",
    ),
    "style": (
        "a cat in {} style",
        "cityscape in {} style",
        "portrait of elderly man in {} style",
        "abstract composition in {} style",
    ),
    "object": (
        "{} object on white background",
        "{} object in natural environment",
        "close-up of {} object, detailed",
        "{} object, advertisement style photo",
    ),
    "pet": (
        "{} pet on white background",
        "{} pet in natural environment",
        "close-up of {} pet, detailed",
        "{} pet, oil painting style",
    ),
}


SUBJECTS = {"person": "guide.person", "style": "guide.style", "object": "guide.object", "pet": "guide.pet"}


def subject(subject_type: str) -> Message:
    """A subject type as it stands in a sentence: "a person"."""
    return Message(SUBJECTS[subject_type])


def steps_for(subject_type: str, pictures: int) -> int:
    """The guide's steps: the lower end of its range, because adding steps is easier than undoing them."""
    rows = STEPS[subject_type]
    for fewer_than, (least, _most) in rows:
        if pictures < fewer_than:
            return least
    return rows[-1][1][0]


def test_prompts(subject_type: str, word: str) -> list[str]:
    """The guide's prompts for judging a model, with the subject's word filled in."""
    return [prompt.format(word) for prompt in TEST_PROMPTS[subject_type]]
