"""Settings of trained words (embeddings), alone or together with a LoRA."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting

EMBEDDING = {"methods": ("textual_inversion", "lora"), "group": "Textual Inversion"}
PIVOTAL = {"methods": ("lora",), "group": "Textual Inversion"}


@dataclass(frozen=True)
class TextualInversionSettings:
    placeholder_token: str = setting(
        "",
        "Word",
        "The word to teach. Default: the model's name, because WebUIs call an embedding by its file name. Separate "
        "several words with commas: each gets a file of its own, and a picture whose file name begins with one of "
        "them teaches only that word. A LoRA is trained together with a word that is given here (pivotal tuning).",
        **EMBEDDING,
    )
    initializer_token: str = setting(
        "",
        "Initial words",
        "What the word starts as: 'red toy cat'. For several words, give as many parts with commas between them, or "
        "one for all. Default: the type of subject.",
        **EMBEDDING,
    )
    num_vectors: int | None = setting(
        None,
        "Vectors per word",
        "How much a word can hold, and how many tokens of the prompt it takes up. Default: by the type of subject.",
        minimum=1,
        maximum=75,
        **EMBEDDING,
    )
    embedding_norm: float = setting(
        2.0,
        "Vector length limit",
        "How long a vector can get, as a multiple of the average length of the base's word vectors. Longer ones drown "
        "out the rest of the prompt; 0 is no limit.",
        minimum=0,
        maximum=1000,
        **EMBEDDING,
    )
    embedding_weights: str | None = setting(
        None,
        "Continue an embedding",
        "An embedding to continue, from this or another program (.safetensors, .pt, .bin, or a PNG that carries one); "
        "several with commas, in the order of the words. The number of vectors is the file's.",
        kind="path",
        lists="textual_inversion",
        listed_by="placeholder_token",
        **EMBEDDING,
    )

    save_image_with_embedding: bool = setting(
        False,
        "Embedding in previews",
        "Previews carry the embedding: put into the embeddings folder, such a picture works in the WebUI as an "
        "embedding.",
        group="Textual Inversion",
        methods=("textual_inversion",),
    )
    embedding_lr: float | str | None = setting(
        None,
        "Word learning rate",
        "Learning rate of a word that is trained together with a LoRA. Also takes a schedule. Default: 5e-4.",
        kind="rate",
        **PIVOTAL,
    )
    embedding_steps: int | None = setting(
        None,
        "Word steps",
        "For how many steps, from the start, the word is trained together with the LoRA. Default: half of all steps.",
        minimum=1,
        maximum=10_000_000,
        **PIVOTAL,
    )
    bundle_embedding: bool = setting(
        True,
        "Word in the LoRA",
        "Put the word's vectors into the LoRA's file, so that the word works wherever the LoRA does (A1111). Off: "
        "save an embedding beside it, named after the word.",
        **PIVOTAL,
    )
