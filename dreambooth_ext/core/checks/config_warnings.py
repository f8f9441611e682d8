"""What a user should know: warnings before a run, none of which forbids anything, and what helps where memory lacks."""

from __future__ import annotations

from ..config.rates import parse_rate_schedule
from ..config.run_config import RunConfig
from ..data.identifiers import USED_WORDS, identifier_problem
from ..errors import Problem
from ..facts.lora_types import lora_type
from ..facts.methods import WHOLE_METHODS
from ..facts.optimizer_facts import names_with, optimizer_facts
from ..guide import tables
from ..guide.completion import a_or_an
from ..guide.tables import PICTURES
from ..messages.message import number

USUAL_RATES = {  # by method; a word's beside a LoRA is the guide's
    "learning_rate": {
        "dreambooth": tables.LEARNING_RATE,
        "finetune": tables.FINETUNE_RATE,
        "lora": tables.LORA_RATE,
        "textual_inversion": tables.EMBEDDING_RATE,
        "hypernetwork": tables.HYPERNETWORK_RATE,
        "unconditional": tables.UNCONDITIONAL_RATE,
    },
    "text_encoder_lr": {
        "dreambooth": tables.TEXT_ENCODER_LR,
        "finetune": tables.TEXT_ENCODER_LR,
        "lora": tables.LORA_TEXT_RATE,
    },
    "embedding_lr": {"lora": tables.PIVOTAL_RATE},
}
USUAL_RATES["text_encoder_2_lr"] = USUAL_RATES["text_encoder_lr"]
STRANGE = 100  # times the usual rate
HIGHEST_RATES = {"learning_rate": 5e-6, "text_encoder_lr": 2e-6}
HYPERNETWORK_HIGHEST = 5e-5  # of the WebUI's users, for the first steps only
EMBEDDING_PICTURES = 3
MOST_VECTORS = 24  # beyond, a warning
UNCONDITIONAL_LEAST_PICTURES, UNCONDITIONAL_LEAST_BATCH = 100, 8


def warnings(config: RunConfig, pictures: int) -> list[Problem]:
    """What a beginner should know before training on so many pictures."""
    strange = _strange_rates(config)
    named = {problem.field for problem in strange}
    seen = (problem for look in WARNINGS[config.method] for problem in look(config, pictures))
    found = strange + [problem for problem in seen if problem.field not in named]
    if config.text_encoder_steps and config.max_train_steps and config.text_encoder_steps > config.max_train_steps:
        found.append(Problem("text_encoder_steps", "more than the run has steps.", "Fewer are usual: 20 to 30 %."))
    return found


def _strange_rates(config: RunConfig) -> list[Problem]:
    """Rates with which nothing can be learned, such as those of optimizers that find their own."""
    found, optimizer = [], optimizer_facts(config.optimizer)
    for field, methods in USUAL_RATES.items():
        rate, usual = _highest(getattr(config, field)), methods.get(config.method)
        rests = field.startswith("text_encoder") and not config.text_encoder_steps
        if usual is None or rests or optimizer.finds_rate:
            continue
        usual *= optimizer.usual_rate
        if rate >= STRANGE * usual * (1 - 1e-9):
            times = round(rate / usual)
            message = f"{number(rate)} is {times} times the usual rate: it destroys a full-size model."
            finder = " or ".join(names_with("finds_rate"))
            remedy = f"{number(usual)} is usual; a rate of 1 is for {finder}, which finds its own."
            found.append(Problem(field, message, remedy, is_grave=True))
    return found


def _highest(rate: float | str | None) -> float:
    """Of a schedule; 0 for what is none."""
    try:
        return max(value for value, _ in parse_rate_schedule(rate)) if rate is not None else 0.0
    except ValueError:
        return 0.0


def _of_subjects(config: RunConfig, pictures: int) -> list[Problem]:
    least, best, _, most = PICTURES[config.subject_type]
    kind, field = a_or_an(config.subject_type), "instance_data_dir"
    if not pictures:
        return []  # that is a problem, and said as such
    if pictures < 5:
        return [Problem(field, f"only {pictures} pictures.", f"{least} is the least for good results.")]
    if pictures < least:
        remedy = f"{least} is the least, {best} or more are better."
        return [Problem(field, f"{pictures} pictures are few for {kind}.", remedy)]
    if pictures > most:
        return [Problem(field, f"{pictures} pictures are many for {kind}.", f"More than {most} is not always better.")]
    return []


def _of_rates(config: RunConfig, pictures: int) -> list[Problem]:
    found = []
    for field, highest in HIGHEST_RATES.items():
        rate = getattr(config, field)
        if isinstance(rate, float) and rate > highest and not optimizer_facts(config.optimizer).finds_rate:
            found.append(
                Problem(
                    field,
                    f"{number(rate)} is high.",
                    f"More than {number(highest)} overtrains full-size models.",
                )
            )
    return found


def _of_loras(config: RunConfig, pictures: int) -> list[Problem]:
    precision = lora_type(config.network_type).safe_precision
    if not precision or config.save_precision == precision:
        return []
    message = f"WebUIs compute {config.network_type} in the file's precision; in fp16 not at all on a CPU."
    return [Problem("save_precision", message, f"{precision} is safe, and such files are small.")]


def _of_words(config: RunConfig, pictures: int) -> list[Problem]:
    found = []
    if 0 < pictures < EMBEDDING_PICTURES:
        message, remedy = f"only {pictures} pictures.", f"{EMBEDDING_PICTURES} to 5 are the least for a word."
        found.append(Problem("instance_data_dir", message, remedy))
    words = [word.strip() for word in config.placeholder_token.split(",")]
    for word in words:
        if word.lower() in USED_WORDS or len(word) < 3:
            message = f"wherever '{word}' stands in a prompt, and within longer words too, it will mean your pictures."
            found.append(Problem("placeholder_token", message, "Take a word that does not exist, such as sksper."))
    if len(words) == 1 and not config.name.lower().startswith(words[0].lower()):
        message = f"WebUIs will know the word as '{config.name}', the file's name, and not as '{words[0]}'."
        found.append(Problem("placeholder_token", message, "Write the file's name in prompts there."))
    names = words if len(words) > 1 else [word for word in words if word.lower() == config.name.lower()]
    found += [problem for name in names if (problem := _of_file_name(name))]
    if (config.num_vectors or 1) > MOST_VECTORS:
        message = (
            f"{config.num_vectors} vectors take as many of a prompt's 75 tokens, and learn single pictures by heart."
        )
        found.append(Problem("num_vectors", message, f"Use {MOST_VECTORS} or fewer."))
    return found


def _of_file_name(word: str) -> Problem | None:
    """Of an embedding whose file is called like a word that a checkpoint or LoRA may have been taught."""
    if identifier_problem(word):
        return None
    message = (
        f"'{word}' in a prompt will mean this embedding on every checkpoint, also on one that was taught '{word}'."
    )
    return Problem("name", message, f"If there is one, choose another name, such as {word}_ti.")


def _of_hypernetworks(config: RunConfig, pictures: int) -> list[Problem]:
    found, rate, optimizer = [], config.learning_rate, optimizer_facts(config.optimizer)
    if isinstance(rate, float) and rate > HYPERNETWORK_HIGHEST and not optimizer.finds_rate:
        message = f"{number(rate)} is high for a hypernetwork."
        found.append(
            Problem("learning_rate", message, f"More than {number(HYPERNETWORK_HIGHEST)} breaks full-size models.")
        )
    if "soft" in config.activation and config.activation.removeprefix("log").startswith(("softmax", "softmin")):
        message = f"{config.activation} goes over the pictures of a batch, in the WebUI, too: alone, none learns."
        found.append(Problem("activation", message, "Choose another, swish for example."))
    return found


def _of_unconditional_models(config: RunConfig, pictures: int) -> list[Problem]:
    found = []
    if 0 < pictures < UNCONDITIONAL_LEAST_PICTURES:
        message = f"{pictures} pictures are few for a model that starts from nothing: it will only repeat them."
        found.append(Problem("train_data_dir", message, "Give some hundreds; or teach a base by DreamBooth or LoRA."))
    batch = config.train_batch_size * config.gradient_accumulation_steps
    if batch < UNCONDITIONAL_LEAST_BATCH:
        found.append(Problem("train_batch_size", f"{batch} is small for this method.", "16 is usual."))
    return found


WARNINGS = {
    "dreambooth": (_of_subjects, _of_rates),
    "finetune": (),
    "lora": (_of_subjects, _of_loras),
    "textual_inversion": (_of_words,),
    "hypernetwork": (_of_subjects, _of_hypernetworks),
    "unconditional": (_of_unconditional_models,),
}


def out_of_memory_remedies(config: RunConfig, resolution: int, checkpointing: bool) -> list[str]:
    """What this run can still do about memory, most effective first."""
    remedies, optimizer = [], optimizer_facts(config.optimizer)
    if not checkpointing:
        remedies.append("turn gradient_checkpointing on")
    if config.train_batch_size > 1:
        accumulation = config.gradient_accumulation_steps * config.train_batch_size
        remedies.append(
            f"set train_batch_size to 1 (and gradient_accumulation_steps to {accumulation} for the same effect)"
        )
    if not optimizer.is_8bit:
        remedies.append(f"use the optimizer {' or '.join(names_with('is_8bit'))}")
    if config.cache_latents is False:
        remedies.append("turn cache_latents on")
    if config.max_grad_norm and optimizer.steps_alone and config.mixed_precision != "fp16":
        alone = "" if config.gradient_accumulation_steps == 1 else " and gradient_accumulation_steps to 1"
        remedies.append(f"set max_grad_norm to 0{alone}: then gradients are let go one by one")
    if config.use_ema:
        remedies.append("turn use_ema off")
    if config.text_encoder_steps:
        remedies.append("set text_encoder_steps to 0")
    if config.method == "lora" and (config.rank or 0) > 8:
        remedies.append("lower the rank")
    if config.with_prior_preservation and config.method not in WHOLE_METHODS:
        remedies.append("put class pictures of your own into class_data_dir: to draw them takes more than to train")
    if config.method == "hypernetwork" and sum(config.layer_structure) > 4:
        remedies.append("set layer_structure to 1, 2, 1")
    if config.method == "unconditional" and resolution > 64:
        remedies.append(f"lower the resolution from {resolution} to {resolution // 2}")
    elif resolution > 512:
        remedies.append(f"lower the resolution from {resolution} to {max(512, resolution - 256)}")
    what = "" if config.device == "cpu" else " that use the card, the WebUI's loaded model among them"
    remedies.append(f"close other programs{what}")
    return remedies
