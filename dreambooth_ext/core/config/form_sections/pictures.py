"""What is learned: pictures, their words, and class pictures."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED, PROMPTED_METHODS, SUBJECT
from ...facts.setting import setting

TEMPLATES = ("subject", "style", "hypernetwork")  # of prompts, built in


@dataclass(frozen=True)
class Pictures:
    instance_data_dir: str = setting(
        "",
        "Pictures",
        "Folder with the pictures to learn (JPG, PNG, WebP, BMP).",
        group="Pictures",
        kind="path",
        **PROMPTED,
    )
    instance_prompt: str | None = setting(
        None,
        "Instance prompt",
        "How a prompt names your subject, with its rare word: 'a photo of sksper person'. May hold [filewords] (the "
        "caption file's text, else the cleaned file name) and [name]. Left out: the words come from the file names, "
        "'sksper (1).jpg', one subject for each.",
        group="Pictures",
        **PROMPTED,
    )
    prompt_template: str = setting(
        "",
        "Prompt template",
        "The prompts to train with: subject, style, or a text file with one in each line, where [name] is the word and "
        "[filewords] the caption. Each picture takes one at random each time. Left out: by the type of the subject; "
        "an instance prompt takes its place.",
        group="Pictures",
        methods=("textual_inversion", "hypernetwork"),
        kind="path",
        words=TEMPLATES,
    )
    class_prompt: str | None = setting(
        None,
        "Class prompt",
        "What your subject is, without the rare word: 'a photo of a person'. Needed for prior preservation.",
        group="Prior preservation",
        **SUBJECT,
    )
    class_data_dir: str | None = setting(
        None,
        "Class pictures",
        "Folder with pictures of the class in general. Missing ones are drawn by the base model and kept there.",
        group="Prior preservation",
        kind="path",
        **SUBJECT,
    )
    with_prior_preservation: bool | None = setting(
        None,
        "Prior preservation",
        "Train on pictures of the class as well, so that not every person becomes yours. On by default when a class "
        "prompt is given.",
        group="Prior preservation",
        **SUBJECT,
    )
    num_class_images: int = setting(
        100,
        "Number of class pictures",
        "How many class pictures to use; 100 to 200 do.",
        group="Prior preservation",
        minimum=1,
        maximum=100_000,
        **SUBJECT,
    )
    prior_loss_weight: float = setting(
        1.0,
        "Prior loss weight",
        "How much the class pictures count beside yours.",
        group="Prior preservation",
        minimum=0,
        maximum=100,
        **SUBJECT,
    )
    concepts: list = setting(
        [],
        "Concepts",
        "Several subjects at once: a list of objects with instance_data_dir, instance_prompt, class_data_dir, "
        "class_prompt, num_class_images and repeats (how often each picture counts in an epoch).",
        group="Pictures",
        kind="concepts",
        **SUBJECT,
    )
    resolution: int | None = setting(
        None,
        "Resolution",
        "Training resolution in pixels, in steps of 64: 512 for SD 1.5, 768 for SD 2.1-768, 1024 for SDXL. Left out: "
        "the base's own. Unconditional models also take less, in steps of 8; left out, 64.",
        group="Pictures",
        minimum=16,
        maximum=2048,
    )
    enable_bucket: bool = setting(
        False,
        "Aspect buckets",
        "Keep each picture's proportions (in 64-pixel steps) instead of cropping it to a square.",
        group="Pictures",
        **PROMPTED,
    )
    center_crop: bool = setting(
        True,
        "Centre crop",
        "Crop from the middle. Off: crop somewhere else each time the picture comes up (needs cache_latents off).",
        group="Pictures",
    )
    random_flip: bool = setting(
        False, "Random flip", "Mirror half of the pictures. Not for faces: they are not symmetric.", group="Pictures"
    )
    use_captions: bool | None = setting(
        None,
        "Use captions",
        "Read the caption file beside each picture. Left out: yes for styles, objects and fine-tuning, no for faces.",
        group="Pictures",
        **PROMPTED,
    )
    caption_extension: str = setting(
        ".txt", "Caption extension", "Ending of the caption files' names.", group="Pictures", **PROMPTED
    )
    shuffle_tags: bool = setting(
        False,
        "Shuffle tags",
        "Put a caption's comma-separated tags in a new order each time.",
        group="Pictures",
        **PROMPTED,
    )
    keep_tokens: int = setting(
        0,
        "Keep tokens",
        "How many leading tags keep their place when tags are shuffled, and are never dropped.",
        group="Pictures",
        minimum=0,
        maximum=255,
        **PROMPTED,
    )
    caption_dropout: float = setting(
        0.0,
        "Caption dropout",
        "Share of steps a picture is shown without its caption; 0.1 helps in fine-tuning.",
        group="Pictures",
        minimum=0,
        maximum=1,
        methods=tuple(method for method in PROMPTED_METHODS if method != "textual_inversion"),
    )
    cache_latents: bool | None = setting(
        None,
        "Cache latents",
        "Encode each picture once, before training: faster, and the VAE leaves memory. Left out: on wherever possible.",
        group="Pictures",
        **PROMPTED,
    )
    cache_latents_to_disk: bool | None = setting(
        None,
        "Cache on disk",
        "Keep the latents on disk instead of in memory, and reuse them. Left out: where memory would be too small.",
        group="Pictures",
        **PROMPTED,
    )

    latent_sampling: str = setting(
        "random",
        "Latent sampling",
        "The VAE gives each picture a small range of latents. random: another of them each time; once: the same one "
        "each time; deterministic: the middle.",
        group="Pictures",
        choices=("random", "once", "deterministic"),
        **PROMPTED,
    )
    alpha_as_loss_weight: bool = setting(
        False,
        "Transparency as loss weight",
        "What is transparent in a picture counts less, and what is wholly transparent not at all: to teach a subject "
        "without what is around it.",
        group="Pictures",
        **PROMPTED,
    )
