"""The words that are taught, by themselves or along with a LoRA."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting

EMBEDDING = {"methods": ("textual_inversion", "lora"), "group": "Textual Inversion"}
PIVOTAL = {"methods": ("lora",), "group": "Textual Inversion"}


@dataclass(frozen=True)
class TextualInversion:
    placeholder_token: str = setting(
        "",
        "Word",
        "The word that is taught. Left out: the name, as WebUIs know an embedding by its file's name. Several, with "
        "commas: each gets a file of its own name; a picture whose file name begins with one of them teaches only "
        "that. A LoRA learns along with the word where one is given here (pivotal tuning).",
        **EMBEDDING,
    )
    initializer_token: str = setting(
        "",
        "Initial words",
        "What the word begins as: 'red toy cat'. For several words as many parts with commas, or the same for all. "
        "Left out: the type of the subject.",
        **EMBEDDING,
    )
    num_vectors: int | None = setting(
        None,
        "Vectors a word",
        "How much a word can hold, and how many tokens of the prompt it takes. Left out: by the type of the subject.",
        minimum=1,
        maximum=75,
        **EMBEDDING,
    )
    embedding_norm: float = setting(
        2.0,
        "Longest vector",
        "A vector may be so many times as long as the base's words are on average. Longer ones drown the rest of the "
        "prompt; 0 is no limit.",
        minimum=0,
        maximum=1000,
        **EMBEDDING,
    )
    embedding_weights: str | None = setting(
        None,
        "Continue an embedding",
        "An embedding to go on from, of this program or another (.safetensors, .pt, .bin, or a PNG that carries one); "
        "several with commas, in the order of the words. Vectors and their number are then the file's.",
        kind="path",
        lists="textual_inversion",
        listed_by="placeholder_token",
        **EMBEDDING,
    )

    save_image_with_embedding: bool = setting(
        False,
        "Embedding in previews",
        "Preview pictures on the way carry the embedding: put into the embeddings folder, a WebUI knows its word.",
        group="Textual Inversion",
        methods=("textual_inversion",),
    )
    embedding_lr: float | str | None = setting(
        None,
        "Word's rate",
        "Of a word that learns along with a LoRA. Left out: 5e-4. Or a schedule, as of other rates.",
        kind="rate",
        **PIVOTAL,
    )
    embedding_steps: int | None = setting(
        None,
        "Word's steps",
        "For so many steps from the start the word learns along with the LoRA. Left out: half of them.",
        minimum=1,
        maximum=10_000_000,
        **PIVOTAL,
    )
    bundle_embedding: bool = setting(
        True,
        "Word in the LoRA",
        "Put the word's vectors into the LoRA's file, so that the word is known where the LoRA is (A1111). Off: an "
        "embedding beside it, called like the word.",
        **PIVOTAL,
    )
