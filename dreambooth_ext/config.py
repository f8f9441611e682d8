"""The one list of settings. Form, tooltips, command line, API schema, README table and defaults are all made from it.

`RunConfig` is what one run was asked to do. A field that is `None` was left out: `guide.complete` fills in what follows
from the subject type and the number of pictures before a run is created, and `engine.plan.resolve` what only the base
and the machine can answer (resolution, clip skip, and everything "auto") when it starts.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

METHODS = {
    "dreambooth": "DreamBooth: teach the whole model a subject or style by a rare word",
    "finetune": "Fine-tuning: train the whole model on many captioned pictures",
    "lora": "LoRA: teach a subject or style in a small file of its own, which goes with every model of the base's kind",
    "textual_inversion": "Textual Inversion: teach a word, in a file of a few kilobytes; the model stays as it is",
    "hypernetwork": "Hypernetwork: teach a subject or style in a small file that only AUTOMATIC1111's WebUI draws with",
    "unconditional": "Unconditional: train a model of its own, without a base, which draws pictures like yours without "
    "a prompt",
}
KINDS = {  # of the models that methods make
    "dreambooth": "checkpoint",
    "finetune": "checkpoint",
    "lora": "lora",
    "textual_inversion": "textual_inversion",
    "hypernetwork": "hypernetwork",
    "unconditional": "unconditional",
}
SUBJECT_METHODS = ("dreambooth", "lora", "hypernetwork")  # those that bind a subject to a rare word
# Those that start from a base, which draws by prompts
PROMPTED_METHODS = ("dreambooth", "finetune", "lora", "textual_inversion", "hypernetwork")
TUNING_METHODS = ("dreambooth", "finetune", "lora")  # those that can change the base's text encoders
FORMATS = {  # of the files that methods make, the usual one first
    "dreambooth": ("safetensors", "ckpt"),
    "finetune": ("safetensors", "ckpt"),
    "lora": ("safetensors",),
    "textual_inversion": ("safetensors", "pt"),
    "hypernetwork": ("pt",),
    "unconditional": ("",),  # a folder
}
NETWORK_TYPES = ("lora", "locon", "loha", "lokr", "dora", "oft")
NETWORK_TARGETS = ("attention", "feed_forward", "convolutions")
# The names of the WebUI's list. It also has threshold and glu, with which it cannot make or draw anything.
ACTIVATIONS = (
    *("linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "rrelu", "hardtanh", "relu6", "hardsigmoid"),
    *("silu", "mish", "celu", "selu", "gelu", "hardshrink", "logsigmoid", "softplus", "softshrink", "prelu"),
    *("softsign", "tanhshrink", "softmin", "softmax", "softmax2d", "logsoftmax"),
)
WEIGHT_INITS = ("Normal", "KaimingUniform", "KaimingNormal", "XavierUniform", "XavierNormal")
SUBJECT_TYPES = ("person", "style", "object", "pet")
OPTIMIZERS = ("auto", "adamw", "adamw8bit", "paged_adamw8bit", "lion", "adafactor", "prodigy", "sgd")
LR_SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
SAMPLERS = ("DPM++ 2M Karras", "DPM++ 2M", "DPM++ SDE Karras", "Euler a", "Euler", "Heun", "LMS", "DDIM", "UniPC")


@dataclass(frozen=True)
class Setting:
    """What a form, a command line or a table has to know about one field of `RunConfig`."""

    name: str
    kind: str  # "int", "float", "bool", "str", "path", "rate", "list", "numbers", "dict", "concepts"
    default: Any
    label: str
    help: str
    group: str
    optional: bool  # None is allowed, and means: from the guide, the base or the machine
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    lists: str = ""  # the kind of model files (KINDS' values) that a form can offer for it

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def range(self) -> str:
        """ "1 to 512", or "" for what has no limits."""
        if self.minimum is None or self.maximum is None:
            return ""
        return f"{_plain(self.minimum)} to {_plain(self.maximum)}"


def setting(default: Any, label: str, help: str, **about: Any) -> Any:
    """A dataclass field that carries its label, help, range, choices and the methods that use it."""
    factory = {"default_factory": lambda: type(default)(default)} if isinstance(default, list | dict) else {}
    return field(**factory or {"default": default}, metadata={"label": label, "help": help, **about})


def _plain(number: float) -> str:
    """Whole numbers in full, where :g would write 4.29497e+09."""
    return str(int(number)) if number == int(number) else f"{number:g}"


SUBJECT = {"methods": SUBJECT_METHODS}
PROMPTED = {"methods": PROMPTED_METHODS}
TUNING = {"methods": TUNING_METHODS}
LORA = {"methods": ("lora",), "group": "LoRA"}
EMBEDDING = {"methods": ("textual_inversion", "lora"), "group": "Textual Inversion"}
PIVOTAL = {"methods": ("lora",), "group": "Textual Inversion"}
# A word's vectors are few, and their length means something: nothing draws them to 0.
DECAYED = {"methods": tuple(method for method in METHODS if method != "textual_inversion")}
HYPERNETWORK = {"methods": ("hypernetwork",), "group": "Hypernetwork"}
UNCONDITIONAL = {"methods": ("unconditional",), "group": "Unconditional"}


@dataclass
class RunConfig:
    """What to train, on what, and how. Field names are those of diffusers and kohya."""

    # --- Model
    method: str = setting("dreambooth", "Method", "What is trained.", group="Model", choices=tuple(METHODS))
    name: str = setting("", "Name", "The new model's file name: Latin letters, digits, - and _.", group="Model")
    base_model: str = setting(
        "",
        "Base model",
        "The model to start from: a .safetensors or .ckpt file, a diffusers folder, a Hugging Face name or a link. "
        "An unconditional model starts from nothing, or from the folder of one that is to go on.",
        group="Model",
        kind="path",
    )
    subject_type: str = setting(
        "person",
        "Type of subject",
        "Decides steps, rates, captions and offset noise where you leave them out.",
        group="Model",
        choices=SUBJECT_TYPES,
        **PROMPTED,
    )
    prediction_type: str = setting(
        "auto",
        "Prediction type",
        "What the base predicts. Only for a base that is recognised wrongly (images turn into noise or flat colour). "
        "A new unconditional model may also predict the sample, the picture itself; 'auto' is epsilon, the noise.",
        group="Model",
        choices=("auto", "epsilon", "v_prediction", "sample"),
    )

    # --- Pictures
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
    # --- Data set
    dataset_config: str | None = setting(
        None,
        "kohya's data set",
        "A data set's configuration as kohya's scripts read it, TOML or JSON, instead of folders and prompts here.",
        group="Data set",
        kind="path",
        **PROMPTED,
    )
    repeats_from_folders: bool = setting(
        False,
        "Repeats from folders' names",
        "Read folders' names as kohya does: pictures in '10_sks person' count 10 times in an epoch, and these words "
        "are their prompt where you give none.",
        group="Data set",
        **PROMPTED,
    )
    balance_folders: bool = setting(
        False,
        "Balance folders",
        "Each folder directly below the pictures' one counts as much in an epoch as the largest: pictures of smaller "
        "ones come up more often.",
        group="Data set",
    )
    captions_per_picture: str = setting(
        "one",
        "Captions a picture",
        "'one': a caption file's lines are one caption, and of a list in a metadata file the first counts. 'random': "
        "each is a caption of its own, and one is drawn each time.",
        group="Data set",
        choices=("one", "random"),
        **PROMPTED,
    )
    caption_column: str = setting(
        "text",
        "Caption column",
        "The column of metadata.jsonl that holds the captions.",
        group="Data set",
        **PROMPTED,
    )
    tag_dropout: float = setting(
        0.0,
        "Tag dropout",
        "Share of a caption's tags that are left out, others each time; the kept leading ones stay.",
        group="Data set",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    caption_separator: str = setting(
        ",", "Caption separator", "What stands between a caption's tags.", group="Data set", **PROMPTED
    )
    validation_split: float = setting(
        0.0,
        "Pictures held out",
        "Pictures to measure the loss on that are never trained on: a share of them (0.05), or a number (50). This "
        "validation loss falls while the model learns, and rises once it learns the pictures by heart. 0 is off.",
        group="Data set",
        minimum=0,
        maximum=100_000,
    )
    validation_loss_steps: int | None = setting(
        None,
        "Validation loss every N steps",
        "0 holds the pictures out without measuring. Left out: 20 times in the run.",
        group="Data set",
        minimum=0,
        maximum=10_000_000,
    )

    # --- Training
    max_train_steps: int | None = setting(
        None,
        "Steps",
        "How many steps to train. Left out: the guide's number for the subject and the number of pictures.",
        group="Training",
        minimum=1,
        maximum=10_000_000,
    )
    num_train_epochs: int | None = setting(
        None,
        "Epochs",
        "How many times to go through all pictures, instead of a number of steps.",
        group="Training",
        minimum=1,
        maximum=1_000_000,
    )
    train_batch_size: int = setting(
        1, "Batch size", "Pictures a step. More need more memory.", group="Training", minimum=1, maximum=512
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Gradient accumulation",
        "Batches whose gradients are added up before a step: a larger batch without more memory.",
        group="Training",
        minimum=1,
        maximum=1024,
    )
    learning_rate: float | str | None = setting(
        None,
        "Learning rate",
        "The UNet's rate. 2e-6 standard, 1e-6 careful, 3e-6 to 5e-6 aggressive. Or a schedule: '2e-6:1000, 1e-6' "
        "is 2e-6 up to step 1000, then 1e-6.",
        group="Training",
        kind="rate",
    )
    text_encoder_lr: float | str | None = setting(
        None,
        "Text encoder rate",
        "About half of the UNet's: 1e-6 standard, 4e-7 to 8e-7 careful, 2e-6 at most. A schedule as above.",
        group="Training",
        kind="rate",
        **TUNING,
    )
    text_encoder_2_lr: float | str | None = setting(
        None,
        "Second text encoder's rate",
        "SDXL's second text encoder. Left out: as the first.",
        group="Training",
        kind="rate",
        **TUNING,
    )
    text_encoder_steps: int | None = setting(
        None,
        "Text encoder steps",
        "The text encoder trains along from the start for so many steps, then is frozen and leaves memory. Faces 350, "
        "styles 500, objects 300; 0 leaves it alone.",
        group="Training",
        minimum=0,
        maximum=10_000_000,
        **TUNING,
    )
    lr_scheduler: str = setting(
        "constant", "Rate schedule", "How the rate goes over the run.", group="Training", choices=LR_SCHEDULERS
    )
    lr_warmup_steps: int = setting(
        0,
        "Warm-up steps",
        "Steps in which the rate rises from 0; every schedule but 'constant' has them.",
        group="Training",
        minimum=0,
        maximum=1_000_000,
    )
    lr_num_cycles: int = setting(
        1, "Restarts", "Cycles of cosine_with_restarts.", group="Training", minimum=1, maximum=1000
    )
    lr_power: float = setting(
        1.0, "Power", "Power of the polynomial schedule.", group="Training", minimum=0, maximum=10
    )
    optimizer: str = setting(
        "auto",
        "Optimizer",
        "'auto' is 8-bit AdamW on an NVIDIA card and AdamW elsewhere. Prodigy finds its own rate (set it to 1).",
        group="Training",
        choices=OPTIMIZERS,
    )
    optimizer_args: dict = setting(
        {},
        "Optimizer arguments",
        'Further arguments of the optimizer, by their names: {"betas": [0.9, 0.99], "eps": 1e-8}.',
        group="Training",
    )
    weight_decay: float = setting(
        1e-2, "Weight decay", "Decoupled weight decay.", group="Training", minimum=0, maximum=10, **DECAYED
    )
    max_grad_norm: float | str = setting(
        1.0,
        "Gradient clipping",
        "Largest global norm of the gradients, or a schedule as of rates, '1:500, 0.1'. 0 is off, and saves memory: "
        "each gradient is let go as soon as it was used (not with fp16, accumulation or Prodigy).",
        group="Training",
        kind="rate",
        minimum=0,
        maximum=1e6,
    )
    clip_grad_mode: str = setting(
        "norm",
        "Clip by",
        "norm: all gradients are made smaller together where their norm is too large; value: each number is cut off by "
        "itself at that limit.",
        group="Training",
        choices=("norm", "value"),
    )
    clip_skip: int | None = setting(
        None,
        "Clip skip",
        "Take the text encoder's last layer but so many (1 is the last), as in the WebUI. Many anime models want 2.",
        group="Training",
        minimum=1,
        maximum=12,
        **PROMPTED,
    )
    max_token_length: int = setting(
        75,
        "Token length",
        "Longest caption in tokens, in chunks of 75 as in the WebUI.",
        group="Training",
        minimum=75,
        maximum=225,
        **PROMPTED,
    )
    use_ema: bool = setting(
        False, "EMA", "Keep a moving average of the UNet's weights, and export that.", group="Training"
    )
    ema_decay: float = setting(
        0.9999, "EMA decay", "The average's highest decay.", group="Training", minimum=0, maximum=1
    )
    seed: int = setting(42, "Seed", "Same seed, same run.", group="Training", minimum=0, maximum=2**32 - 1)

    # --- LoRA
    network_type: str = setting(
        "lora",
        "Type of LoRA",
        "lora: the usual one. locon: with convolutions, for styles. loha, lokr: other products of small matrices. "
        "dora: learns size and direction apart. oft: only turns what the model knows.",
        choices=NETWORK_TYPES,
        **LORA,
    )
    rank: int | None = setting(
        None,
        "Rank",
        "How much the LoRA can hold, and how large its file is: 8 to 32 for subjects, 32 to 128 for styles. For oft "
        "the largest size of a block. Left out: 16.",
        minimum=1,
        maximum=1024,
        **LORA,
    )
    alpha: float | None = setting(
        None,
        "Alpha",
        "The change is multiplied by alpha / rank; parts with ranks of their own keep this proportion. Left out: as "
        "the rank.",
        minimum=1e-3,
        maximum=4096,
        **LORA,
    )
    text_encoder_rank: int | None = setting(
        None, "Text encoder's rank", "Left out: as the rank.", minimum=1, maximum=1024, **LORA
    )
    conv_rank: int | None = setting(
        None, "Convolutions' rank", "Of 3x3 convolutions. Left out: as the rank.", minimum=1, maximum=1024, **LORA
    )
    target_modules: list = setting(
        [],
        "Layers",
        "Which layers learn: attention, feed_forward, convolutions. Left out: the first two, and convolutions for "
        "locon.",
        **LORA,
    )
    block_ranks: dict = setting(
        {},
        "Ranks of blocks",
        'Single blocks, by diffusers\' names, with ranks of their own; 0 leaves one out: {"down_blocks.0": 0, '
        '"mid_block": 8, "up_blocks.1.attentions.0": 32}. "unet" and "text_encoder" mean all of them.',
        **LORA,
    )
    network_dropout: float = setting(
        0.0,
        "Dropout",
        "Share of what the LoRA's layers see that is hidden from them at each step; 0.1 works against overtraining.",
        minimum=0,
        maximum=0.9,
        **LORA,
    )
    use_rslora: bool = setting(
        False,
        "Rank-stabilised scaling",
        "Multiply by alpha / sqrt(rank) instead, so that high ranks learn as fast as low ones.",
        **LORA,
    )
    loraplus_lr_ratio: float = setting(
        1.0,
        "LoRA+ ratio",
        "How many times faster the second (up) matrix learns than the first; 16 is the paper's, 1 is off.",
        minimum=1,
        maximum=1000,
        **LORA,
    )
    lokr_factor: int = setting(
        -1,
        "LoKr factor",
        "Largest size of LoKr's smaller matrix; -1 is as large as the other.",
        minimum=-1,
        maximum=1024,
        **LORA,
    )
    network_weights: str | None = setting(
        None,
        "Continue a LoRA",
        "A LoRA file to go on from, of this program or another; type, ranks and layers are then the file's.",
        kind="path",
        lists="lora",
        **LORA,
    )

    # --- Textual inversion
    placeholder_token: str = setting(
        "",
        "Word",
        "The word that is taught. Left out: the name, as WebUIs know an embedding by its file's name. Several, with "
        "commas: each gets a file of its own name; a picture whose file name begins with one of them teaches only that. "
        "A LoRA learns along with the word where one is given here (pivotal tuning).",
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
    prompt_template: str = setting(
        "",
        "Prompt template",
        "The prompts to train with: subject, style, or a text file with one in each line, where [name] is the word and "
        "[filewords] the caption. Each picture takes one at random each time. Left out: by the type of the subject; "
        "an instance prompt takes its place.",
        group="Textual Inversion",
        methods=("textual_inversion",),
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

    # --- Hypernetwork
    enable_sizes: list = setting(
        [],
        "Sizes",
        "Widths of the contexts that are changed: 768 (SD 1), 1024 (SD 2) or 2048 (SDXL) for the text; 320, 640 and "
        "1280 for the picture's own features. Left out: all that the base has.",
        kind="numbers",
        **HYPERNETWORK,
    )
    layer_structure: list = setting(
        [1, 2, 1],
        "Layer structure",
        "Widths of the layers, as multiples of the context's; the first and the last are 1. 1, 2, 2, 1 holds more.",
        kind="numbers",
        **HYPERNETWORK,
    )
    activation: str = setting(
        "linear",
        "Activation",
        "What comes between the layers; linear is none. The WebUI recommends swish or linear.",
        choices=ACTIVATIONS,
        **HYPERNETWORK,
    )
    activate_output: bool = setting(
        False, "Activate the output", "The activation also comes after the last layer.", **HYPERNETWORK
    )
    weight_init: str = setting(
        "Normal",
        "Initialisation",
        "How the weights begin. Kaiming for relu and its like, Xavier for sigmoid and its like, Normal for others.",
        choices=WEIGHT_INITS,
        **HYPERNETWORK,
    )
    layer_norm: bool = setting(
        False, "Layer normalisation", "Normalise what each layer gives, which few need.", **HYPERNETWORK
    )
    dropout: list = setting(
        [],
        "Dropout structure",
        "Share that is dropped at each width of the layer structure, the first and the last 0: 0, 0.05, 0.15, 0. It "
        "works against overtraining. Left out: none.",
        kind="numbers",
        **HYPERNETWORK,
    )
    hypernetwork_weights: str | None = setting(
        None,
        "Continue a hypernetwork",
        "A .pt file to go on from, also one of the WebUI's Train tab; sizes and structure are then the file's. Its "
        ".optim file, if there is one, is not used: the optimizer starts afresh.",
        kind="path",
        lists="hypernetwork",
        **HYPERNETWORK,
    )

    # --- Unconditional
    train_data_dir: str = setting(
        "",
        "Pictures to learn",
        "Folder with the pictures (JPG, PNG, WebP, BMP): some hundreds at least.",
        kind="path",
        **UNCONDITIONAL,
    )
    dataset_name: str | None = setting(
        None,
        "Data set",
        "Pictures from Hugging Face instead of a folder: the name of a data set, such as owner/name, of pictures or "
        "Parquet files.",
        **UNCONDITIONAL,
    )
    model_config: str | None = setting(
        None,
        "Configuration of the model",
        "A diffusers configuration of a UNet2DModel: its config.json, or the folder that holds it. Left out: that of "
        "diffusers' train_unconditional.py, 113 million numbers.",
        kind="path",
        **UNCONDITIONAL,
    )
    ddpm_num_steps: int = setting(
        1000, "Steps of the noise", "Timesteps from picture to noise.", minimum=2, maximum=10_000, **UNCONDITIONAL
    )
    ddpm_beta_schedule: str = setting(
        "linear",
        "Noise schedule",
        "How the noise grows: linear, as in DDPM, or squaredcos_cap_v2, the squared cosine, which is gentler on small "
        "pictures.",
        choices=("linear", "squaredcos_cap_v2"),
        **UNCONDITIONAL,
    )
    ddpm_num_inference_steps: int | None = setting(
        None,
        "Preview's sampling steps",
        "Steps that previews are drawn in; fewer are quicker and rougher. Left out: as many as the noise has.",
        minimum=1,
        maximum=10_000,
        **UNCONDITIONAL,
    )
    ema_inv_gamma: float | None = setting(
        None,
        "EMA inverse gamma",
        "The average's decay after n steps is 1 - (1 + n / inverse gamma)^-power. Left out: 1.",
        minimum=1e-3,
        maximum=1e6,
        **UNCONDITIONAL,
    )
    ema_power: float | None = setting(
        None,
        "EMA power",
        "As above: 2/3 for runs of a million steps and more, 3/4 for shorter ones. Left out: 3/4.",
        minimum=1e-3,
        maximum=10,
        **UNCONDITIONAL,
    )

    # --- Loss and noise
    loss_type: str = setting(
        "l2", "Loss", "How a wrong prediction is counted.", group="Loss", choices=("l2", "l1", "huber", "smooth_l1")
    )
    huber_c: float = setting(
        0.1,
        "Huber parameter",
        "Where Huber and smooth L1 turn from square to linear.",
        group="Loss",
        minimum=1e-6,
        maximum=100,
    )
    huber_schedule: str = setting(
        "snr",
        "Huber schedule",
        "How that parameter goes over the timesteps.",
        group="Loss",
        choices=("constant", "exponential", "snr"),
    )
    snr_gamma: float | None = setting(
        None,
        "Min-SNR gamma",
        "Weigh timesteps by Min-SNR; 5 is usual, empty is off.",
        group="Loss",
        minimum=1e-3,
        maximum=100,
    )
    debiased_estimation: bool = setting(False, "Debiased estimation", "Weigh timesteps by 1/sqrt(SNR).", group="Loss")
    offset_noise: float | None = setting(
        None,
        "Offset noise",
        "Lets the model learn dark and bright pictures. Left out: 0.1 for styles, 0 otherwise.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    adaptive_noise_scale: float = setting(
        0.0,
        "Adaptive noise scale",
        "Adds this much of the latents' mean absolute value to the offset noise.",
        group="Loss",
        minimum=-1,
        maximum=1,
        **PROMPTED,
    )
    multires_noise_iterations: int = setting(
        0,
        "Multi-resolution noise",
        "Layers of pyramid noise; 6 to 10, 0 is off.",
        group="Loss",
        minimum=0,
        maximum=64,
        **PROMPTED,
    )
    multires_noise_discount: float = setting(
        0.3,
        "Multi-resolution discount",
        "How fast pyramid noise fades.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    ip_noise_gamma: float = setting(
        0.0,
        "Input perturbation",
        "Extra noise on the noisy input only (never on the target); 0.1 is usual, 0 is off.",
        group="Loss",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    min_timestep: int = setting(0, "Lowest timestep", "Train from this timestep.", group="Loss", minimum=0, maximum=999)
    max_timestep: int = setting(
        1000,
        "Highest timestep",
        "Train up to this timestep (exclusive); 1000 is the end of every schedule.",
        group="Loss",
        minimum=1,
        maximum=1000,
    )
    zero_terminal_snr: bool | None = setting(
        None,
        "Zero terminal SNR",
        "Rescale the noise schedule so that the last timestep is pure noise; only for v-prediction. Left out: as the "
        "base was trained.",
        group="Loss",
        **PROMPTED,
    )

    # --- Machine
    device: str = setting("auto", "Device", "auto, cuda, cuda:1, mps or cpu.", group="Machine")
    mixed_precision: str = setting(
        "auto",
        "Mixed precision",
        "'auto' is bf16 on cards that have it, fp16 on other NVIDIA cards, and no on a CPU.",
        group="Machine",
        choices=("auto", "no", "fp16", "bf16"),
    )
    gradient_checkpointing: bool | None = setting(
        None,
        "Gradient checkpointing",
        "Much less memory for a fifth more time. Left out: on for graphics cards, off on a CPU.",
        group="Machine",
    )
    attention: str = setting(
        "auto",
        "Attention",
        "'auto' is PyTorch's own fast attention (sdpa).",
        group="Machine",
        choices=("auto", "sdpa", "xformers", "eager"),
        **PROMPTED,
    )

    # --- Saving
    checkpointing_steps: int = setting(
        500,
        "Save every N steps",
        "Saves the training state to resume from, and a model to try; 0 saves only at the end.",
        group="Saving",
        minimum=0,
        maximum=10_000_000,
    )
    save_every_n_epochs: int = setting(
        0,
        "Save every N epochs",
        "Saves at the end of every N-th epoch instead of by steps; 0 is off.",
        group="Saving",
        minimum=0,
        maximum=1_000_000,
    )
    checkpointing_start_step: int = setting(
        0, "Save from step", "No intermediate save before this step.", group="Saving", minimum=0, maximum=10_000_000
    )
    checkpoints_total_limit: int | None = setting(
        1,
        "Keep training states",
        "How many training states stay on disk (each is several times the model's size); empty keeps all. Models "
        "saved on the way are never deleted.",
        group="Saving",
        minimum=1,
        maximum=10_000,
    )
    save_intermediate_models: bool = setting(
        True, "Intermediate models", "Also write a model, <name>_<step>, at each save.", group="Saving"
    )
    save_precision: str = setting(
        "fp16",
        "Precision of the model",
        "The written model's precision.",
        group="Saving",
        choices=("fp16", "bf16", "fp32"),
    )
    save_format: str = setting(
        "safetensors",
        "File format",
        "safetensors is safe and quick; for old programs ckpt, and pt for textual inversion.",
        group="Saving",
        choices=("safetensors", "ckpt", "pt"),
        methods=tuple(method for method, formats in FORMATS.items() if len(formats) > 1),
    )

    # --- Preview pictures
    validation_prompts: list = setting(
        [],
        "Preview prompts",
        "Prompts to draw on the way, with your word. Left out: the guide's test prompts when previews are asked for.",
        group="Previews",
        **PROMPTED,
    )
    validation_steps: int = setting(
        0, "Preview every N steps", "0 draws none on the way.", group="Previews", minimum=0, maximum=10_000_000
    )
    validation_negative_prompt: str = setting(
        "", "Negative prompt", "What previews should not show.", group="Previews", **PROMPTED
    )
    validation_num_images: int = setting(
        1,
        "Pictures a prompt",
        "Pictures drawn for each prompt; without prompts, in the grid.",
        group="Previews",
        minimum=1,
        maximum=64,
    )
    validation_inference_steps: int = setting(
        25, "Sampling steps", "Steps of the sampler.", group="Previews", minimum=1, maximum=1000, **PROMPTED
    )
    validation_guidance_scale: float = setting(
        7.5, "CFG scale", "How closely previews follow the prompt.", group="Previews", minimum=1, maximum=50, **PROMPTED
    )
    validation_sampler: str = setting(
        "DPM++ 2M Karras",
        "Sampler",
        "The sampler of previews and class pictures.",
        group="Previews",
        choices=SAMPLERS,
        **PROMPTED,
    )
    validation_seed: int = setting(
        0,
        "Preview seed",
        "Previews always use this seed, so that steps compare.",
        group="Previews",
        minimum=0,
        maximum=2**32 - 1,
    )
    report_to: str = setting(
        "tensorboard",
        "Tracker",
        "Writes the run's curves for TensorBoard.",
        group="Saving",
        choices=("tensorboard", "none"),
    )

    # --- Hugging Face
    push_to_hub: bool = setting(
        False,
        "Upload",
        "Put the finished model, with a page that describes it, into a repository on Hugging Face. Log in first: "
        "`huggingface-cli login`, or HF_TOKEN.",
        group="Hugging Face",
    )
    hub_model_id: str | None = setting(
        None,
        "Repository",
        "Its name: owner/name, or name for your own. Left out: the run's name.",
        group="Hugging Face",
    )
    hub_private_repo: bool = setting(
        False, "Private repository", "Only you can see a repository that is made now.", group="Hugging Face"
    )

    @property
    def model_format(self) -> str:
        """The file's ending without its dot: `save_format` where the method has a choice."""
        formats = FORMATS[self.method]
        return self.save_format if self.save_format in formats else formats[0]

    def model_file(self, name: str) -> str:
        """What a model of this name is called on disk; one without an ending is a folder."""
        return f"{name}.{self.model_format}" if self.model_format else name

    @property
    def pictures_setting(self) -> str:
        """The setting that names the folder of pictures."""
        return "instance_data_dir" if self.method in PROMPTED_METHODS else "train_data_dir"

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> RunConfig:
        return dataclasses.replace(self, **changes)


def _kind(annotation: Any, about: Mapping[str, Any]) -> tuple[str, bool]:
    """A field's kind and whether it may be None, from its annotation: `int | None` is ("int", True)."""
    is_union = isinstance(annotation, types.UnionType)
    members = [t for t in typing.get_args(annotation) if t is not type(None)] if is_union else [annotation]
    return about.get("kind", members[0].__name__), is_union and type(None) in typing.get_args(annotation)


def _settings() -> dict[str, Setting]:
    hints = typing.get_type_hints(RunConfig)
    blank = RunConfig()
    settings = {}
    for item in dataclasses.fields(RunConfig):
        about = dict(item.metadata)
        kind, optional = _kind(hints[item.name], about)
        about.pop("kind", None)
        settings[item.name] = Setting(
            name=item.name, kind=kind, optional=optional, default=getattr(blank, item.name), **about
        )
    return settings


SETTINGS: dict[str, Setting] = _settings()
