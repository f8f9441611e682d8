"""Models that propose captions: which ones are offered, and what a folder must hold to be one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..messages.message import Message
from ..system.files import read_json

ONNX, TABLE = "model.onnx", "selected_tags.csv"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
TAGS, SENTENCES = "tags", "sentences"
CAPTIONERS = ("blip", "git", "vision-encoder-decoder", "florence2")  # transformers' model types
LARGEST_CONFIG = 2**20  # bytes
_CAPTIONER_FILES = (
    CONFIG, WEIGHTS, "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json",
    "vocab.txt",
)  # fmt: skip


@dataclass(frozen=True)
class KnownTagger:
    """One on Hugging Face, with the files that it needs."""

    repository: str
    kind: str
    files: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name of its folder on disk."""
        return self.repository.replace("/", "--")


KNOWN = (
    KnownTagger("SmilingWolf/wd-vit-tagger-v3", TAGS, (ONNX, TABLE)),
    KnownTagger("SmilingWolf/wd-swinv2-tagger-v3", TAGS, (ONNX, TABLE)),
    KnownTagger("SmilingWolf/wd-v1-4-moat-tagger-v2", TAGS, (ONNX, TABLE)),
    KnownTagger("Salesforce/blip-image-captioning-large", SENTENCES, _CAPTIONER_FILES),
    KnownTagger("microsoft/git-base-coco", SENTENCES, _CAPTIONER_FILES),
)


def kind_of(folder: Path) -> str:
    """TAGS or SENTENCES by what a folder holds, "" if it is no tagger; runs nothing of it."""
    if onnx_file(folder) and (folder / TABLE).is_file():
        return TAGS
    return SENTENCES if model_type(folder) in CAPTIONERS else ""


def onnx_file(folder: Path) -> Path | None:
    """The folder's ONNX model: model.onnx, else the only one."""
    if (folder / ONNX).is_file():
        return folder / ONNX
    try:
        found = sorted(folder.glob("*.onnx"))
    except OSError:
        return None
    return found[0] if len(found) == 1 else None


def model_type(folder: Path) -> str:
    """What a folder's configuration says that it is; "" without one."""
    try:
        known = read_json(folder / CONFIG, LARGEST_CONFIG)
    except (OSError, ValueError):
        return ""
    return str(known.get("model_type") or "") if isinstance(known, dict) else ""


def why_not(folder: Path) -> Message | None:
    """Why a folder cannot be a tagger, as far as its files tell; None if it may be one."""
    if not folder.is_dir():
        return Message("tagging.no_folder", folder=str(folder))
    if onnx_file(folder) and not (folder / TABLE).is_file():
        return Message("tagging.no_table", file=TABLE)
    return None if kind_of(folder) else Message("tagging.no_tagger", kinds=list(CAPTIONERS), table=TABLE)
