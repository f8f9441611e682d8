"""The form's description, `GET schema`: all settings, and the prompts that follow from the beginner's three answers."""

from __future__ import annotations

from typing import Any

from ...core.config.run_config import FILLED_IN, SETTINGS
from ...core.data import identifiers
from ...core.data.identifiers import ADVICE, COMMON_WORDS, KNOWN
from ...core.facts.methods import METHOD_LABELS
from ...core.facts.setting import Setting
from ...core.guide import tables
from ...core.messages.message import beside

WORD = "{word}"  # stands for the identifier in every text of the schema

# Prompts for a word, as the guide's test prompts name each type of subject: (the subject's, its class's).
PROMPTS = {
    "person": (f"a photo of {WORD} person", "a photo of a person"),
    "style": (f"a picture in {WORD} style", "a picture in an art style"),
    "object": (f"a photo of {WORD} object", "a photo of an object"),
    "pet": (f"a photo of {WORD} pet", "a photo of a pet"),
}
# "a cat in sksper style", and without the style's word what the base draws: "a cat"
CAPTIONED = {"style": (f"[filewords] in {WORD} style", "[filewords]")}


def schema() -> dict[str, Any]:
    """Everything that a form needs to know, as JSON, made from the settings and the guide."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for known in SETTINGS.values():
        groups.setdefault(known.group, []).append(_about(known))
    return {
        "methods": dict(METHOD_LABELS),
        "subject_types": [_subject(kind) for kind in SETTINGS["subject_type"].choices or ()],
        "identifier": {
            "rules": [
                {"pattern": pattern, **beside("message", told)} for pattern, told in identifiers.IDENTIFIER_RULES
            ],
            "known_words": sorted(COMMON_WORDS | identifiers.USED_WORDS),
            **beside("known_message", KNOWN),
            **beside("advice", ADVICE),
        },
        "groups": [{"name": name, "settings": members} for name, members in groups.items()],
    }


def prompts_for(word: str, subject_type: str, has_captions: bool = False) -> dict[str, str]:
    """The instance and class prompt for a rare word. The class prompt is only for prior preservation.

    `has_captions`: every picture has a caption file, and none of them contains the word.
    """
    instance, of_class = _templates(subject_type, has_captions)
    return {"instance_prompt": instance.replace(WORD, word.strip()), "class_prompt": of_class}


def _templates(subject_type: str, has_captions: bool) -> tuple[str, str]:
    return (CAPTIONED if has_captions and subject_type in CAPTIONED else PROMPTS)[subject_type]


def _about(known: Setting) -> dict[str, Any]:
    return {
        "name": known.name,
        "option": known.option,
        "kind": known.kind,
        "default": known.default,
        "label": known.label,
        "help": known.help,
        "optional": known.optional,
        "filled_in": known.name in FILLED_IN,  # left out: from the guide, the base or the machine, and not just off
        "minimum": known.minimum,
        "maximum": known.maximum,
        "choices": list(known.choices) if known.choices else None,
        "methods": list(known.methods),
        "lists": known.lists,
        "goes_with": list(known.goes_with),
    }


def _subject(kind: str) -> dict[str, Any]:
    """A subject type: numbers of pictures, and its prompts with "{word}" in them."""
    least, best_from, best_to, most = tables.PICTURES[kind]
    keys = ("instance_prompt", "class_prompt")
    return {
        "name": kind,
        "pictures": {"least": least, "best_from": best_from, "best_to": best_to, "most": most},
        "prompts": dict(zip(keys, _templates(kind, has_captions=False), strict=True)),
        "prompts_with_captions": dict(zip(keys, _templates(kind, has_captions=True), strict=True)),
        "test_prompts": tables.test_prompts(kind, WORD),
    }
