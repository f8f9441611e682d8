"""The translations in `localizations/`: `python -m dreambooth_ext.host.localization` puts them in order.

A translation belongs to a text that the page shows, word for word. What is not shown any more is taken out, the rest is
put in the sources' order, and what has no translation yet is listed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ..config import METHODS, SETTINGS
from ..files import read_json, write_text
from . import form, presets
from .options import OPTIONS

TEXTS = Path(__file__).with_name("page") / "texts.js"
FOLDER = Path(__file__).resolve().parents[2] / "localizations"

# Names, examples and the like, which are the same in every language
SAME = frozenset(
    [
        *(
            "DreamBooth",
            "LoRA",
            "Textual Inversion",
            "Hugging Face",
            "EMA",
            "UNet",
            "sksper",
            "{stage}: {done} of {of}",
        ),
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        '[{"instance_data_dir": "…", "instance_prompt": "a photo of sksper person"}]',
    ]
)
STYLES = frozenset(["good", "bad"])  # classes of messages in texts.js


def sources() -> list[str]:
    """Every text that a translation may be for, each once, in the order of the page."""
    texts = [*_page(), *_schema(), *_presets(), *_options()]
    return [text for text in dict.fromkeys(texts) if text not in SAME and re.search(r"[^\W\d_]", text)]


def _page() -> Iterator[str]:
    source = TEXTS.read_text(encoding="utf-8")
    body = source[source.index("localised({") : source.index("\n});")]
    for literal in re.findall(r'"(?:[^"\\\n]|\\.)*"', body):
        text = json.loads(literal)
        if text not in STYLES:
            yield text


def _schema() -> Iterator[str]:
    yield from METHODS.values()
    yield from dict.fromkeys(known.group for known in SETTINGS.values())
    for known in SETTINGS.values():
        yield known.label
        yield known.help
    about = form.schema()["identifier"]
    yield from (rule["message"] for rule in about["rules"])
    yield about["known_message"]
    yield about["advice"]


def _presets() -> Iterator[str]:
    for preset in presets.built_in():
        yield preset.title
        yield preset.description


def _options() -> Iterator[str]:
    for option in OPTIONS:
        yield option.label
        yield f"({option.help})"  # so the WebUI's settings page shows it


def read(path: Path) -> dict[str, str]:
    return read_json(path)


def missing(translations: dict[str, str]) -> list[str]:
    return [text for text in sources() if text not in translations]


def ordered(translations: dict[str, str]) -> dict[str, str]:
    """The translations of texts that are still there, in the sources' order."""
    return {text: translations[text] for text in sources() if text in translations}


def main() -> int:
    for path in sorted(FOLDER.glob("*.json")):
        translations = read(path)
        kept = ordered(translations)
        if list(kept.items()) != list(translations.items()):
            write_text(path, json.dumps(kept, ensure_ascii=False, indent=4) + "\n")
        lacks = missing(kept)
        removed = len(translations) - len(kept)
        print(f"{path.name}: {len(kept)} texts, {len(lacks)} without a translation, {removed} removed")
        for text in lacks:
            print(f"    {json.dumps(text, ensure_ascii=False)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
