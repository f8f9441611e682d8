"""The subjects of a run: one, several, or the subsets of a kohya data set, each with its pictures and prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from ..config.parsing import nearest, shown
from ..config.run_config import RunConfig
from ..errors import Problem
from ..facts.methods import SUBJECT_METHODS
from . import captions, kohya_dataset
from .folder_scan import MOST_FILES

TEXT_KEYS = ("instance_data_dir", "instance_prompt", "class_data_dir", "class_prompt", "mask_dir")
CONCEPT_KEYS = (*TEXT_KEYS, "num_class_images", "repeats")


@dataclass(frozen=True)
class Variation:
    """How pictures and captions vary from epoch to epoch; the settings of the same names."""

    random_flip: bool
    shuffle_tags: bool
    keep_tokens: int
    caption_dropout: float
    tag_dropout: float
    caption_separator: str

    @property
    def varies_tags(self) -> bool:
        return self.shuffle_tags or self.tag_dropout > 0


@dataclass(frozen=True)
class Concept:
    """One subject's pictures and prompts (or one folder's, where file names hold the rare words)."""

    field: str  # what its settings are called in messages: "", "concepts[0]." or "dataset_config"
    instance_data_dir: str
    instance_prompt: str | None
    class_data_dir: str | None
    class_prompt: str | None
    num_class_images: int
    variation: Variation
    caption_extension: str
    repeats: int = 1
    subset: kohya_dataset.Subset | None = None  # where a kohya data set describes it
    mask_dir: str = ""  # "" for masks beside the pictures alone
    by_alpha: bool = False  # the transparency of pictures without a mask weighs their loss
    pictures_setting: str = "instance_data_dir"  # what `instance_data_dir` is called in messages

    def named(self, setting: str) -> str:
        """The name of one of its settings in messages."""
        if self.subset:
            return "dataset_config"
        return self.field + (self.pictures_setting if setting == "instance_data_dir" else setting)


@dataclass(frozen=True)
class Subjects:
    """A run's subjects, read once. A check passes them on, because a data set's file may change in between and everyone
    must see the same one."""

    concepts: list[Concept]
    data_set: kohya_dataset.DataSet | None  # that `dataset_config` names

    @classmethod
    def of(cls, config: RunConfig) -> Subjects:
        data_set = kohya_dataset.read(config.dataset_config) if config.dataset_config else None
        return cls.within(config, data_set)

    @classmethod
    def within(cls, config: RunConfig, data_set: kohya_dataset.DataSet | None) -> Subjects:
        """The subjects of a data set that has already been read."""
        return cls(_concepts(config, data_set), data_set)

    def uses_prior(self, config: RunConfig) -> bool:
        """Whether the run trains on class pictures; if left open, it does when there is a class prompt."""
        if config.method not in SUBJECT_METHODS:
            return False
        if config.with_prior_preservation is not None:
            return config.with_prior_preservation
        return any(concept.class_prompt for concept in self.concepts)


def uses_prior(config: RunConfig) -> bool:
    """`Subjects.uses_prior` for callers that need nothing else; reads the data set's file only if it matters."""
    known = config.with_prior_preservation is not None or config.method not in SUBJECT_METHODS
    return (Subjects([], None) if known else Subjects.of(config)).uses_prior(config)


def concepts(config: RunConfig) -> list[Concept]:
    """The concepts, read now, for callers that need nothing else."""
    return Subjects.of(config).concepts


def _concepts(config: RunConfig, data_set: kohya_dataset.DataSet | None) -> list[Concept]:
    """The run's concepts: `config.concepts`, the subsets of its data set, or the one that the single settings describe.

    A concept without a class of its own takes the run's class prompt, folder and count. Values of a wrong type become
    their defaults here, and a data set that cannot be read has no concepts; `problems` reports both.
    """
    if data_set is not None:
        return [_of_subset(config, subset) for subset in data_set.subsets]
    usual = variation(config)
    if not config.concepts:
        return [
            Concept(
                field="",
                instance_data_dir=getattr(config, config.pictures_setting),
                instance_prompt=config.instance_prompt or None,
                class_data_dir=config.class_data_dir or None,
                class_prompt=config.class_prompt or None,
                num_class_images=config.num_class_images,
                pictures_setting=config.pictures_setting,
                variation=usual,
                caption_extension=config.caption_extension,
                mask_dir=config.mask_dir or "",
                by_alpha=config.alpha_as_loss_weight,
            )
        ]
    found = []
    for index, given in enumerate(config.concepts):
        texts = {key: given.get(key) if isinstance(given.get(key), str) else None for key in TEXT_KEYS}
        has_class = texts["class_prompt"] or texts["class_data_dir"]
        found.append(
            Concept(
                field=f"concepts[{index}].",
                instance_data_dir=texts["instance_data_dir"] or "",
                instance_prompt=texts["instance_prompt"] or None,
                class_data_dir=(texts["class_data_dir"] if has_class else config.class_data_dir) or None,
                class_prompt=texts["class_prompt"] or config.class_prompt or None,
                num_class_images=_count(given, "num_class_images", config.num_class_images),
                repeats=_count(given, "repeats", 1),
                variation=usual,
                caption_extension=config.caption_extension,
                mask_dir=texts["mask_dir"] or config.mask_dir or "",
                by_alpha=config.alpha_as_loss_weight,
            )
        )
    return found


def _of_subset(config: RunConfig, subset: kohya_dataset.Subset) -> Concept:
    return Concept(
        field="dataset_config",
        instance_data_dir=subset.folder,
        instance_prompt=subset.prompt or None,
        class_data_dir=subset.class_folder or None,
        class_prompt=subset.class_prompt or None,
        num_class_images=MOST_FILES,  # all that there are,
        variation=variation(config, subset.settings),
        caption_extension=subset.settings.get("caption_extension", config.caption_extension),
        repeats=subset.repeats,
        mask_dir=subset.mask_folder or config.mask_dir or "",
        by_alpha=subset.settings.get("alpha_as_loss_weight", config.alpha_as_loss_weight),
        subset=subset,
    )


def variation(config: RunConfig, instead: Mapping[str, Any] | None = None) -> Variation:
    """The variation that the settings describe; values in `instead` override them."""
    return Variation(**{name: (instead or {}).get(name, getattr(config, name)) for name in Variation.__annotations__})


def _count(given: dict[str, Any], key: str, default: int) -> int:
    value = given.get(key)
    return value if _is_count(value) else default


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    """Problems with the concepts as given, whatever their folders contain."""
    found = []
    for index, given in enumerate(config.concepts):
        found += _key_problems(f"concepts[{index}].", given)
    for name in ("instance_data_dir", "instance_prompt"):
        if config.concepts and getattr(config, name):
            found.append(Problem("pictures.concepts_have_own", name))
    if subjects.data_set is not None:
        found += kohya_dataset.problems(config, subjects.data_set)
    if config.method in SUBJECT_METHODS:  # class pictures are for subjects; checks of methods refuse them elsewhere
        found += _class_problems(config, subjects)
    return found


def _class_problems(config: RunConfig, subjects: Subjects) -> list[Problem]:
    found = []
    known, prior = subjects.concepts, subjects.uses_prior(config)
    is_off = config.with_prior_preservation is False
    if prior and not config.prior_loss_weight:
        found.append(Problem("pictures.prior_weight_zero", "prior_loss_weight"))
    for concept in known:
        is_template = captions.has_template(concept.class_prompt)  # class words are the captions' without the subject's
        if concept.class_prompt and concept.class_prompt == concept.instance_prompt and not is_template:
            found.append(Problem("pictures.class_prompt_is_instance", concept.named("class_prompt")))
        wants_class = prior and (len(known) == 1 or not any(c.class_prompt for c in known))
        if not concept.class_prompt and (wants_class or (concept.class_data_dir and not is_off)):
            found.append(Problem("pictures.no_class_prompt", concept.named("class_prompt")))
    return found


def _key_problems(field: str, given: dict[str, Any]) -> list[Problem]:
    found = []
    for key, value in given.items():
        if key not in CONCEPT_KEYS:
            if near := nearest(key, CONCEPT_KEYS):
                found.append(Problem("pictures.concept_key_misspelt", field + str(key), near=near[0]))
            else:
                found.append(Problem("pictures.concept_key_unknown", field + str(key), names=list(CONCEPT_KEYS)))
        elif value is None:
            continue
        elif key in ("num_class_images", "repeats"):
            if not _is_count(value):
                found.append(Problem("pictures.concept_count", field + key, value=shown(value)))
        elif not isinstance(value, str):
            found.append(Problem("pictures.concept_text", field + key, value=shown(value)))
    return found
