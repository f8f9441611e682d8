"""Settings of the training pictures, their prompts and captions, and class pictures."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED, PROMPTED_METHODS, SUBJECT
from ...facts.setting import setting

TEMPLATES = ("subject", "style", "hypernetwork")  # of prompts, built in


@dataclass(frozen=True)
class PictureSettings:
    instance_data_dir: str = setting(
        "",
        "Pictures",
        "Folder with the training pictures (JPG, PNG, WebP, BMP).",
        group="Pictures",
        kind="path",
        **PROMPTED,
    )
    instance_prompt: str | None = setting(
        None,
        "Instance prompt",
        "The prompt that names your subject in training, with its rare word: 'a photo of sksper person'. It may "
        "contain [filewords] (the caption, or the cleaned-up file name if there is none) and [name]. Default: the "
        "rare words are taken from the file names, as in 'sksper (1).jpg', one subject for each word.",
        group="Pictures",
        **PROMPTED,
    )
    prompt_template: str = setting(
        "",
        "Prompt template",
        "The prompts to train with: subject, style, or a text file with one prompt per line, where [name] stands for "
        "the word and [filewords] for the caption. Each time, a picture gets one of them at random. Default: chosen "
        "by the type of subject. An instance prompt replaces the template.",
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
        "Folder with class pictures. Missing ones are drawn by the base model and kept there.",
        group="Prior preservation",
        kind="path",
        **SUBJECT,
    )
    with_prior_preservation: bool | None = setting(
        None,
        "Prior preservation",
        "Also train on class pictures, so that not everybody starts to look like your subject. On by default when "
        "there is a class prompt.",
        group="Prior preservation",
        **SUBJECT,
    )
    num_class_images: int = setting(
        100,
        "Number of class pictures",
        "How many class pictures to use; 100 to 200 are enough.",
        group="Prior preservation",
        minimum=1,
        maximum=100_000,
        **SUBJECT,
    )
    prior_loss_weight: float = setting(
        1.0,
        "Prior loss weight",
        "How much class pictures count compared with yours.",
        group="Prior preservation",
        minimum=0,
        maximum=100,
        **SUBJECT,
    )
    concepts: list = setting(
        [],
        "Concepts",
        "Several subjects at once: a list of objects with instance_data_dir, instance_prompt, class_data_dir, "
        "class_prompt, num_class_images and repeats (how often each picture counts per epoch).",
        group="Pictures",
        kind="concepts",
        **SUBJECT,
    )
    resolution: int | None = setting(
        None,
        "Resolution",
        "Training resolution in pixels, in steps of 64: 512 for SD 1.5, 768 for SD 2.1-768, 1024 for SDXL. Default: "
        "the base's own. Unconditional models can be smaller, in steps of 8; their default is 64.",
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
        "Crop to the middle of each picture. Off: crop to a random part each time (needs cache_latents off).",
        group="Pictures",
    )
    random_flip: bool = setting(
        False,
        "Random flip",
        "Mirror pictures at random, half of the time. Not for faces, which are not symmetric.",
        group="Pictures",
    )
    use_captions: bool | None = setting(
        None,
        "Use captions",
        "Read the caption file beside each picture. Default: on for styles, objects and fine-tuning, off for faces.",
        group="Pictures",
        **PROMPTED,
    )
    caption_extension: str = setting(
        ".txt", "Caption extension", "File extension of the caption files.", group="Pictures", **PROMPTED
    )
    shuffle_tags: bool = setting(
        False,
        "Shuffle tags",
        "Shuffle the comma-separated tags of a caption each time.",
        group="Pictures",
        **PROMPTED,
    )
    keep_tokens: int = setting(
        0,
        "Keep tokens",
        "How many leading tags are never shuffled or dropped.",
        group="Pictures",
        minimum=0,
        maximum=255,
        **PROMPTED,
    )
    caption_dropout: float = setting(
        0.0,
        "Caption dropout",
        "How often a picture is trained without its caption, from 0 (never) to 1 (always); 0.1 helps in fine-tuning.",
        group="Pictures",
        minimum=0,
        maximum=1,
        methods=tuple(method for method in PROMPTED_METHODS if method != "textual_inversion"),
    )
    cache_latents: bool | None = setting(
        None,
        "Cache latents",
        "Encode each picture once, at the latest in the first epoch: faster, and frees the VAE's memory. "
        "Default: on whenever possible.",
        group="Pictures",
        **PROMPTED,
    )
    cache_latents_to_disk: bool | None = setting(
        None,
        "Cache on disk",
        "Keep the latents on disk instead of in memory, and reuse them. Default: on if they would not fit into memory.",
        group="Pictures",
        **PROMPTED,
    )

    latent_sampling: str = setting(
        "random",
        "Latent sampling",
        "For each picture, the VAE gives a narrow range of latents. random: a new sample of it each time; once: one "
        "sample, used every time; deterministic: the middle of the range.",
        group="Pictures",
        choices=("random", "once", "deterministic"),
        **PROMPTED,
    )
    alpha_as_loss_weight: bool = setting(
        False,
        "Transparency as loss weight",
        "Transparent parts of a picture count less, fully transparent ones not at all. Teaches a subject without its "
        "surroundings.",
        group="Pictures",
        **PROMPTED,
    )
