"""How often a run measures itself and on how many pictures, so that it costs less than 2 % of the run's time.

The cost is counted in forward passes of the denoiser, one for each picture at one noise level. With gradients, a
trained picture costs the time of two or three of them, and one more with gradient checkpointing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from ..config.stages import ResolvedConfig
from ..data import captions, prompt_templates
from ..data.concepts import Concept
from ..data.entry import Entry
from .words import spoken

SHARE = 0.0195  # of the run's time by count, which is 1.8 % of it by the clock at most (docs/measurements.md)
FEWEST, MOST = 4, 20  # measurements of a run
ENOUGH = 10  # measurements, after which more pictures help more than more measurements
WHOLE_EACH = 3  # measurements of which one is whole: the others are only of pictures that are trained on and kept back
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
    """The forward passes of a whole measurement, by what they are for."""

    learned: int = 0  # pictures that are trained on
    held: int = 0  # pictures kept back
    classes: int = 0  # class pictures
    drift: int = 0  # prompts that have nothing to do with the pictures
    word: int = 0  # the trained pictures again, without the word in their captions

    @property
    def passes(self) -> int:
        return sum(asdict(self).values())

    def passes_of(self, times: int) -> int:
        """The forward passes of so many measurements, the first of which is the base's, with two for each picture that
        the base makes for `drift`."""
        return times * (self.learned + self.held) + len(whole(times)) * self.seldom + 2 * self.drift

    @property
    def seldom(self) -> int:
        """Those that only whole measurements have."""
        return self.classes + self.drift + self.word


@dataclass(frozen=True)
class Measuring:
    """What a run measures: at the `steps`, which begin with 0 (the base) and end with the last one, `sizes` each; in
    those that are not `whole`, `learned` and `held` alone."""

    steps: tuple[int, ...]
    sizes: Sizes
    share: float  # of the run's time, estimated

    @property
    def whole(self) -> frozenset[int]:
        return frozenset(self.steps[index] for index in whole(len(self.steps)))


def planned(
    config: ResolvedConfig, steps: int, *, pictures: int, held: int, classes: int, sizes: Sizes | None = None
) -> Measuring:
    """Plan the measurements of a run, none if it is too short or they are off.

    pictures, held, classes: how many there are to train on and kept back, and how many class pictures. sizes: those of
    a run that has already begun.
    """
    in_all = steps * work(config, pictures, classes > 0)
    budget = SHARE * in_all
    is_off = not config.measure_progress or bool(config.train_shards_path_or_url)  # shards have no picture to return to
    if is_off or steps < 2 or (sizes and not sizes.passes):
        return Measuring((), Sizes(), 0.0)
    if sizes is None:
        sizes = _sizes(config, budget, held > 0, classes > 0)
        if sizes is None:
            return Measuring((), Sizes(), 0.0)
    times = max((FEWEST, *(count for count in range(MOST + 1) if sizes.passes_of(count) <= budget)))
    due = _steps(steps, times)
    share = sizes.passes_of(len(due)) / in_all
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

    least = sizes(1, 1)
    wanted = [(sizes(level, 2 * level), ENOUGH) for level in range(8, 0, -1)]
    wanted += [(least, ENOUGH), (replace(least, held=0), ENOUGH), (Sizes(3, drift=least.drift), ENOUGH)]
    wanted += [(Sizes(3, drift=least.drift), FEWEST), (Sizes(3), FEWEST)]
    return next((one for one, times in wanted if one.passes_of(times) <= budget), None)


def whole(times: int) -> list[int]:
    """Which of so many measurements are whole: every third, and the last."""
    return sorted({*range(0, times, WHOLE_EACH), times - 1}) if times else []


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
