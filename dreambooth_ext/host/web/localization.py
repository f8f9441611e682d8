"""The translations in `localizations/`: `python -m dreambooth_ext.host.web.localization` tidies them.

A translation belongs to a text of the page, word for word, or to the code of a message (core/messages). Unused ones are
removed, the rest is sorted in the sources' order, and texts without a translation are listed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...core.config.parsing import shown
from ...core.config.run_config import SETTINGS
from ...core.facts.methods import METHOD_LABELS
from ...core.messages.message import Message, catalogue, filled
from ...core.system.files import read_json, write_text
from ...core.system.terminal import say
from ..errors import Refusal
from ..hosts.options import OPTIONS
from ..service import preset_store
from .page_files import PAGE

VIEWS = (
    "shared",
    "train",
    "editor",
    "captions",
    "masks",
    "monitor",
    "runs",
    "compare",
    "verdict",
    "download",
    "pictures",
)
TEXTS = tuple(PAGE / view / "texts.js" for view in VIEWS)
FOLDER = Path(__file__).resolve().parents[3] / "localizations"

# Names, examples and the like, which are the same in every language
SAME = frozenset(
    [
        *(
            "other.as_said",
            "other.as_said.remedy",
            "DreamBooth",
            "LoRA",
            "Textual Inversion",
            "Hugging Face",
            "EMA",
            "SHA-256",
            "UNet",
            "sksper",
            "{stage}: {done} of {of}",
        ),
        *("Stable Diffusion 1", "Stable Diffusion 2", "Stable Diffusion XL"),
        *("kohya sd-scripts", "8bit AdamW", "Euler a"),
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        *("a photo of sksper person", "a photo of a person"),
        *("a photo of [name], [filewords]", "[filewords], in [name] style", "[name], [filewords]"),
    ]
)
STYLES = frozenset(["good", "bad"])  # classes of messages in texts.js


def sources() -> list[str]:
    """Every text of the page, once each, in order."""
    return _once([*_page(), *_schema(), *_presets(), *_options()])


def needed() -> list[str]:
    """The keys of a complete translation in the files' order: the page's texts, and the codes of all messages."""
    return [*sources(), *(code for code in catalogue() if code not in SAME)]


def _once(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text not in SAME and re.search(r"[^\W\d_]", text)]


def _page() -> Iterator[str]:
    for path in TEXTS:
        source = path.read_text(encoding="utf-8")
        start = re.search(r"^export const [A-Z]+ = (localised\()?\{$", source, re.MULTILINE)
        assert start, path
        for literal in re.findall(r'"(?:[^"\\\n]|\\.)*"', source[start.end() : source.index("\n}", start.end())]):
            text = json.loads(literal)
            if text not in STYLES:
                yield text


def _schema() -> Iterator[str]:
    yield from METHOD_LABELS.values()
    yield from dict.fromkeys(known.group for known in SETTINGS.values())
    for known in SETTINGS.values():
        yield known.label
        yield known.help


def _presets() -> Iterator[str]:
    for preset in preset_store.built_in():
        yield preset.title
        yield preset.description


def _options() -> Iterator[str]:
    for option in OPTIONS:
        yield option.label
        yield f"({option.help})"  # so the WebUI's settings page shows it
        yield from option.choices.values()


def languages() -> list[str]:
    """The languages of the page besides English: ["ar_AR", ...]."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def language(name: str) -> dict[str, str]:
    """The translations for one of `languages()`. Raises a Refusal (404)."""
    if name not in languages():
        raise Refusal(404, "web.no_language", "name", name=shown(name), names=languages())
    return read(FOLDER / f"{name}.json")


def named(code: str) -> str:
    """The one of `languages()` that a code such as "ru" or "ru_RU" stands for, "" for English and unknown ones."""
    wanted = code.replace("-", "_").lower()
    found = [name for name in languages() if wanted and name.lower().split("_")[0] == wanted.split("_")[0]]
    return next((name for name in found if name.lower() == wanted), found[0] if found else "")


def translated(message: Message, language: str) -> str:
    """A message in one of `languages()`, for use outside our page; in English if it has no translation."""
    known = read(FOLDER / f"{language}.json") if language in languages() else {}
    return filled(known[message.code], message.values) if message.code in known else str(message)


def read(path: Path) -> dict[str, str]:
    return read_json(path)


def missing(translations: dict[str, str]) -> list[str]:
    return [text for text in needed() if text not in translations]


def ordered(translations: dict[str, str]) -> dict[str, str]:
    """The translations that are still used, in the sources' order."""
    return {text: translations[text] for text in needed() if text in translations}


def main() -> int:
    for path in sorted(FOLDER.glob("*.json")):
        translations = read(path)
        kept = ordered(translations)
        if list(kept.items()) != list(translations.items()):
            write_text(path, json.dumps(kept, ensure_ascii=False, indent=4) + "\n")
        lacks = missing(kept)
        removed = len(translations) - len(kept)
        say(f"{path.name}: {len(kept)} texts, {len(lacks)} without a translation, {removed} removed", stream=sys.stdout)
        say(*(f"    {json.dumps(text, ensure_ascii=False)}" for text in lacks), stream=sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
