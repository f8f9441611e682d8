"""The prompts of Textual Inversion: the words that it trains, and template lines around them, as in the WebUI's files;
hypernetworks can use such lines, too.

In a line, [name] is the word (or a hypernetwork's name), and [filewords] the picture's caption. Built in are "subject"
and "style", from the code of the paper (Gal et al. 2022, arXiv 2208.01618), and "hypernetwork", which has captions
only. If captions are used, lines of Textual Inversion without [filewords] have it added.
"""

from __future__ import annotations

import re
from typing import Any

from ..config.parsing import shown
from ..config.run_config import RunConfig
from ..errors import Problem
from ..messages.message import reason_of
from ..system.files import expanded
from .captions import fill_template, lines_of

NAME, FILEWORDS = "[name]", "[filewords]"
LARGEST = 2**20  # bytes of a file of lines
SUBJECT_LINES = tuple(
    """a photo of a [name]
a rendering of a [name]
a cropped photo of the [name]
the photo of a [name]
a photo of a clean [name]
a photo of a dirty [name]
a dark photo of the [name]
a photo of my [name]
a photo of the cool [name]
a close-up photo of a [name]
a bright photo of the [name]
a cropped photo of a [name]
a photo of the [name]
a good photo of the [name]
a photo of one [name]
a close-up photo of the [name]
a rendition of the [name]
a photo of the clean [name]
a rendition of a [name]
a photo of a nice [name]
a good photo of a [name]
a photo of the nice [name]
a photo of the small [name]
a photo of the weird [name]
a photo of the large [name]
a photo of a cool [name]
a photo of a small [name]""".splitlines()
)
STYLE_LINES = tuple(
    """a painting, art by [name]
a rendering, art by [name]
a cropped painting, art by [name]
the painting, art by [name]
a clean painting, art by [name]
a dirty painting, art by [name]
a dark painting, art by [name]
a picture, art by [name]
a cool painting, art by [name]
a close-up painting, art by [name]
a bright painting, art by [name]
a good painting, art by [name]
a rendition, art by [name]
a nice painting, art by [name]
a small painting, art by [name]
a weird painting, art by [name]
a large painting, art by [name]""".splitlines()
)
HYPERNETWORK_LINES = tuple(line.replace(NAME, FILEWORDS) for line in SUBJECT_LINES)
BUILT_IN = {"subject": SUBJECT_LINES, "style": STYLE_LINES, "hypernetwork": HYPERNETWORK_LINES}


def tokens(config: RunConfig) -> list[str]:
    """The words that the run trains."""
    return config.tokens


def initial_words(config: RunConfig) -> list[str]:
    """The words that each of `tokens` starts from: the parts of a list of the same length, else the whole text for
    each."""
    text, count = config.initializer_token or "", len(tokens(config))
    parts = [part.strip() for part in text.split(",")]
    return parts if len(parts) == count and all(parts) else [text] * count


def continued(config: RunConfig) -> list[str]:
    """The embedding files that training of `tokens` continues from."""
    return [path for field, path in config.paths() if field == "embedding_weights"]


def is_used(config: RunConfig) -> bool:
    return config.method == "textual_inversion" or (config.method == "hypernetwork" and bool(config.prompt_template))


def says(text: str, word: str) -> bool:
    """Whether a text contains a word, ignoring case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def lines(config: RunConfig) -> tuple[tuple[str, ...], list[Problem]]:
    """The lines from the instance prompt or the template, and the problems with them."""
    if config.instance_prompt is not None:
        return (config.instance_prompt,), []
    chosen = config.prompt_template or ""
    if chosen in BUILT_IN:
        return BUILT_IN[chosen], []
    field, built_in = "prompt_template", list(BUILT_IN)
    try:
        path = expanded(chosen)
        if not chosen.strip() or not path.is_file():
            return (), [Problem("captions.no_template", field, file=shown(chosen), built_in=built_in)]
        if path.stat().st_size > LARGEST:
            return (), [Problem("captions.template_too_large", field, file=path.name, built_in=built_in)]
        found = tuple(lines_of(path.read_bytes()))
    except UnicodeDecodeError:
        return (), [Problem("captions.template_not_utf8", field, file=path.name)]
    except (OSError, ValueError) as error:
        return (), [
            Problem(
                "captions.template_unreadable", field, file=shown(chosen), error=reason_of(error), built_in=built_in
            )
        ]
    return found, [] if found else [Problem("captions.template_empty", field, file=path.name, built_in=built_in)]


def words_of(config: RunConfig, found: tuple[str, ...], text: str | None, name: str, identifier: str) -> dict[str, Any]:
    """What a picture is trained with, as fields of its `Entry`: its lines with [name] filled in, its caption and its
    word.

    found: the lines from `lines`. text: from the caption file. name: the cleaned file name, used without a caption. The
    word is the identifier in the file name if that is one of several trained words, else all of them. A hypernetwork
    trains no word.
    """
    if config.method == "hypernetwork":
        return {"caption": text or name, "lines": tuple(line.replace(NAME, config.name) for line in found), "word": ""}
    taught = tokens(config)
    word = next((token for token in taught if token.lower() == identifier.lower()), " ".join(taught))
    if text and config.use_captions:
        found = tuple(line if FILEWORDS in line else _with_caption(line) for line in found)
    caption = (text or name) if any(FILEWORDS in line for line in found) else ""
    return {"caption": caption, "lines": tuple(line.replace(NAME, word) for line in found), "word": word}


def _with_caption(line: str) -> str:
    return line.replace(", art by", f" of {FILEWORDS}, art by") if line in STYLE_LINES else f"{line}, {FILEWORDS}"


def filled(line: str, caption: str, word: str) -> str:
    """A line with its caption filled in, and the word put before it if the line lacks it: otherwise nothing would be
    learned."""
    text = fill_template(line, caption, word).rstrip(" ,")  # a caption whose tags were all left out
    is_said = not word or any(says(text, part) for part in word.split())
    return text if is_said else f"{word}, {text}".rstrip(" ,")
