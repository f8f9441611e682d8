"""How often a run measures itself and on how many pictures, so that it costs less than 2 % of the run's time.

The cost is counted in forward passes of the denoiser, one for each picture at one noise level. With gradients, a
trained picture costs the time of two or three of them, and one more with gradient checkpointing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from ..config.stages import ResolvedConfig
from ..data import captions, prompt_templates
from ..data.concepts import Concept
from ..data.entry import Entry
from .words import spoken

SHARE = 0.016  # of the run's time; what measures beside the denoiser brings it to at most 2 %
FEWEST, MOST = 6, 20  # measurements of a run
ENOUGH = 10  # measurements, after which more pictures help more than more measurements
BINS = ("low", "middle", "high")  # noise levels, each a third of the timesteps
WORDED = ("dreambooth", "lora", "textual_inversion")  # methods that bind a word
WHOLE = ("dreambooth", "finetune", "unconditional")  # methods that compute a gradient for each weight
UNRELATED = (
    "a mountain lake under a cloudy sky",
    "a bowl of fruit on a wooden table",
    "a city street at night in the rain",
    "a dog running on a beach",
)


@dataclass(frozen=True)
class Sizes:
    """The forward passes of one measurement, by what they are for."""

    learned: int = 0  # pictures that are trained on
    held: int = 0  # pictures kept back
    classes: int = 0  # class pictures
    drift: int = 0  # prompts that have nothing to do with the pictures
    word: int = 0  # the trained pictures again, without the word in their captions

    @property
    def passes(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Measuring:
    """What a run measures: at the `steps`, which begin with 0 (the base) and end with the last one, `sizes` each."""

    steps: tuple[int, ...]
    sizes: Sizes
    share: float  # of the run's time, estimated


def planned(
    config: ResolvedConfig, steps: int, *, pictures: int, held: int, classes: int, sizes: Sizes | None = None
) -> Measuring:
    """Plan the measurements of a run, none if it is too short or they are off.

    pictures, held, classes: how many there are to train on and kept back, and how many class pictures. sizes: those of
    a run that has already begun.
    """
    whole = steps * work(config, pictures, classes > 0)
    budget = SHARE * whole
    if not config.measure_progress or steps < 2 or (sizes and not sizes.passes):
        return Measuring((), Sizes(), 0.0)
    if sizes is None:
        sizes = _sizes(config, budget, held > 0, classes > 0)
        if sizes is None:
            return Measuring((), Sizes(), 0.0)
    times = max(FEWEST, min(MOST, int((budget - sizes.drift) // sizes.passes)))  # drift: the base's own, once
    due = _steps(steps, times)
    share = (len(due) * sizes.passes + sizes.drift) / whole
    return Measuring(due, sizes, round(share, 4))


def work(config: ResolvedConfig, pictures: int, with_classes: bool) -> int:
    """The time of one process's training step, in forward passes of a single picture."""
    each = (3 if config.method in WHOLE else 2) + config.gradient_checkpointing
    batch = max(1, min(config.train_batch_size, pictures))  # an epoch's last one may be smaller, and be the only one
    return each * batch * config.gradient_accumulation_steps * (2 if with_classes else 1)


def _sizes(config: ResolvedConfig, budget: float, has_held: bool, has_classes: bool) -> Sizes | None:
    """The largest sizes for which the budget is enough; None if it is too small even for the least."""
    is_prompted = config.method != "unconditional"
    worded = config.method in WORDED

    def sizes(level: int, more: int) -> Sizes:
        held, classes = 3 * level * has_held, more * has_classes
        return Sizes(3 * level, held, classes, more * is_prompted, more * worded)

    wanted = [(sizes(level, 2 * level), ENOUGH) for level in range(8, 1, -1)]
    wanted += [(sizes(1, 2), FEWEST + 1), (sizes(1, 1), FEWEST), (Sizes(3, drift=int(is_prompted)), FEWEST)]
    return next((one for one, times in wanted if times * one.passes + one.drift <= budget), None)


def _steps(total: int, times: int) -> tuple[int, ...]:
    """The steps to measure at: dense at the start, where most is learned, and then ever more even."""
    return tuple(sorted({round(total * (n / (times - 1)) ** 1.5) for n in range(times)}))


# --- texts


def unrelated_prompts(config: ResolvedConfig, words: Sequence[str], count: int) -> list[str]:
    """Prompts that name nothing of what is trained: the run's preview prompts without its word, then others."""
    own = [p for p in config.validation_prompts if not captions.words(p) & spoken(words)] if words else []
    prompts = list(dict.fromkeys([*own, *UNRELATED]))
    return [prompts[n % len(prompts)] for n in range(count)]


def without_word(config: ResolvedConfig, entry: Entry, concept: Concept, words: Iterable[str]) -> str | None:
    """The picture's caption with the class in the word's place, or without the word; None if it has no word.

    words: those of the run, in any spelling.
    """
    if config.method not in WORDED:
        return None
    if entry.lines:
        text = prompt_templates.filled(entry.lines[0], entry.caption, entry.word)
        initial = dict(zip(prompt_templates.tokens(config), prompt_templates.initial_words(config), strict=True))
        for word in entry.word.split():
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", initial.get(word, "").replace("\\", ""), text, flags=re.I)
        return " ".join(text.split())
    prompt, of_class = concept.instance_prompt, concept.class_prompt
    if of_class and not captions.has_template(of_class) and entry.caption == prompt:
        return of_class
    said = spoken(words)
    kept = [part for part in entry.caption.split() if not captions.words(part) & said]
    text = " ".join(kept)
    return text if text != " ".join(entry.caption.split()) else None
