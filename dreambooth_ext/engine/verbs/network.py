"""The verb `network`: merge, extract and resize LoRAs, by singular value decomposition.

For a difference D = U S V^T, the first r singular values give the best LoRA of rank r: up = U sqrt(S), down = sqrt(S)
V^T.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core.config.names import name_problems
from ...core.config.parsing import shown
from ...core.config.run_config import RunConfig
from ...core.errors import UserError
from ...core.system.terminal import Progress, say
from ...core.verbs import generate_options
from ..conditioning.learned_tokens import Embedding
from ..downloads.progress_thread import Fetch, TerminalStage
from ..formats import embedding_file, lora_file
from ..formats.checkpoint_file import export_checkpoint
from ..formats.embedding_file import Stored, export_embedding
from ..formats.lora_file import export_network
from ..formats.metadata import ADAPTERS, base_metadata, modelspec
from ..formats.verified_write import NothingLearned
from ..methods import learned_words
from ..models.base_model import LatentBase, open_base
from ..networks import lora_network
from ..networks.adapter import ALPHA, Adapter, Trainable
from ..networks.layer_adapters import LoRA
from ..networks.lora_network import TARGETS, TEXT_PARTS, Network, is_wide, named_layers, target_ranks
from ..runtime.device import choose_device
from ..tensors.lazy_tensor import is_finite

Models = Mapping[str, nn.Module]


def run(arguments: argparse.Namespace) -> list[Path]:
    """Run the command line's action (`network_options.add_arguments`) and return the files written."""
    try:
        return done(arguments)
    except NothingLearned as error:
        field = "tuned" if arguments.action == "extract" else "lora"
        raise UserError("command.nothing_learned", field, precision=arguments.precision) from error


def done(arguments: argparse.Namespace) -> list[Path]:
    device = choose_device(arguments.device)
    base, out = open_base(arguments.model, field="model", fetch=Fetch(TerminalStage())), Path(arguments.out)
    loras = [generate_options.lora(text) for text in arguments.lora]
    brought = words_of(base, [path for path, _ in loras])
    base.require_sound()
    common = {"precision": arguments.precision}
    if arguments.action == "merge":
        require_places(brought, out, arguments.overwrite)
        models = parts_of(base, device)
        merge(models, loras)
        trained = {name: module.state_dict() for name, module in models.items()}
        about = modelspec(base, title=out.stem, resolution=base.resolution)
        for warning in base.warnings:
            say(f"warning: {warning}")
        model = export_checkpoint(base, trained, out, metadata=about, **common).path
        return [model, *(write_word(base, word, out, arguments.precision) for word in brought)]
    models = parts_of(base, device)
    extracts = arguments.action == "extract"
    made = extract(arguments, base, models, device) if extracts else resize(arguments, models)
    names = lora_file.file_names(lora_file.layers_of(models), base.architecture.unet, base.family)
    about = described(base, out.stem, arguments)
    return [export_network(base, made, names, out, metadata=about, words=brought, **common).path]


def words_of(base: LatentBase, loras: Sequence[Path]) -> list[Embedding]:
    """Return the words bundled in LoRAs. Raises UserError if one does not fit, or occurs twice."""
    found: dict[str, Embedding] = {}
    for path in loras:
        for word in embedding_file.read_bundle(path, "lora"):
            embedding_file.check_widths(Stored(word), path, learned_words.widths(base), "lora")
            if word.word.lower() in found:
                raise UserError("command.word_twice", "lora", word=shown(word.word), name=path.name)
            found[word.word.lower()] = word
    return list(found.values())


def require_places(words: Sequence[Embedding], out: Path, overwrite: bool) -> None:
    """Raise UserError if a word that a merged model needs cannot be written beside it."""
    for word in words:
        if name_problems(word.word):
            raise UserError("command.word_no_file_name", "lora", word=shown(word.word))
        endings = (".yaml",) if overwrite else (".safetensors", ".json", ".yaml")  # a yaml belongs to another model
        taken = any(out.with_name(f"{word.word}{ending}").exists() for ending in endings)
        if word.word.lower() == out.stem.lower() or taken:
            raise UserError("command.word_replaces", "out", word=word.word)


def write_word(base: LatentBase, word: Embedding, out: Path, precision: str) -> Path:
    """Write the word as an embedding beside the model, since a checkpoint cannot contain it."""
    about = modelspec(base, title=word.word, resolution=base.resolution, adapter=ADAPTERS["textual_inversion"])
    path = out.with_name(f"{word.word}.safetensors")
    export_embedding(base, word.vectors, path, precision=precision, metadata=about | base_metadata(base), steps=0)
    say(f"The model needs the word '{word.word}': put {path.name} into the embeddings folder.")
    return path


def parts_of(base: LatentBase, device: torch.device) -> dict[str, nn.Module]:
    """Return the parts of a model that LoRAs change."""
    modules = {"unet": base.unet(), **dict(zip(TEXT_PARTS, base.text_encoders(), strict=False))}
    return {name: module.to(device) for name, module in modules.items()}


def described(base: LatentBase, title: str, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the metadata that WebUIs need for the new LoRA."""
    config = lora_config(arguments)
    about = modelspec(base, title=title, resolution=base.resolution, adapter="lora")
    return {**about, **base_metadata(base), "ss_output_name": title, **lora_file.metadata(config)}


def lora_config(arguments: argparse.Namespace) -> RunConfig:
    """Return the config of a LoRA of the requested ranks, with scale 1."""
    words = [word for word in TARGETS if word != "convolutions" or arguments.conv_rank]
    rank, conv_rank = arguments.rank, arguments.conv_rank
    return RunConfig(method="lora", rank=rank, conv_rank=conv_rank, alpha=float(rank), target_modules=words)


def merge(models: Models, loras: list[tuple[Path, float]]) -> None:
    """Merge LoRAs into the models' own weights. Raises UserError as `lora_file.read` does."""
    for path, weight in loras:
        for component, made in lora_file.read(path, models, "lora").items():
            lora_network.merge(models[component], made, weight)
    for component, module in models.items():
        if broken := next((key for key, tensor in module.state_dict().items() if not is_finite(tensor)), None):
            raise UserError("command.merged_not_finite", "lora", key=broken, part=component)


def extract(arguments: argparse.Namespace, base: LatentBase, models: Models, device: torch.device) -> Network:
    """Return the difference between the tuned model and the base as a LoRA. Parts that are the same in both are left
    out."""
    tuned = open_base(arguments.tuned, field="tuned")
    if lora_network.shapes_of(tuned) != lora_network.shapes_of(base):
        raise UserError("command.layers_differ", "tuned", tuned=tuned.name, base=base.name)
    config, differences = lora_config(arguments), {}
    for name, module in parts_of(tuned, device).items():
        before, after = dict(named_layers(models[name])), dict(named_layers(module))
        ranks = target_ranks(config, name, {layer: tuple(after[layer].weight.shape) for layer in after})
        found = {layer: (after[layer].weight - before[layer].weight).detach() for layer in ranks}
        if any(difference.any() for difference in found.values()):
            differences[name] = {layer: (difference, ranks[layer]) for layer, difference in found.items()}
    return decomposed(differences)


def resize(arguments: argparse.Namespace, models: Models) -> Network:
    """Return a file of any LoRA type as a LoRA of other ranks."""
    (text,) = arguments.lora
    differences: dict[str, dict[str, tuple[Tensor, int]]] = {}
    for name, made in lora_file.read(generate_options.lora(text)[0], models, "lora").items():
        found = differences[name] = {}
        for layer, adapter in made.items():
            if not isinstance(adapter, Trainable):
                raise UserError("command.whole_difference", "lora", layer=layer)
            weight = models[name].get_submodule(layer).weight.detach()
            rank = (arguments.conv_rank if is_wide(weight.shape) else None) or arguments.rank
            found[layer] = (adapter.to(weight.device).change(weight).detach(), rank)
    return decomposed(differences)


def decomposed(differences: dict[str, dict[str, tuple[Tensor, int]]]) -> Network:
    made: Network = {}
    total, done = sum(map(len, differences.values())), 0
    with Progress(total, "Decomposing") as progress:
        for component, layers in differences.items():
            made[component] = {}
            for layer, (difference, rank) in layers.items():
                made[component][layer] = low_rank(difference, rank)
                done += 1
                progress.update(done, layer)
    return made


def low_rank(difference: Tensor, rank: int) -> Adapter:
    """Return the LoRA of at most this rank that best approximates a weight's difference."""
    matrix = difference.float().flatten(1)
    rank = min(rank, *matrix.shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    up, down = left[:, :rank] * root, root[:, None] * right[:rank]
    parts = {
        "lora_up.weight": up.reshape(*up.shape, *[1] * (difference.dim() - 2)),
        "lora_down.weight": down.reshape(rank, *difference.shape[1:]),
        ALPHA: torch.tensor(float(rank)),
    }
    return LoRA(parts)
