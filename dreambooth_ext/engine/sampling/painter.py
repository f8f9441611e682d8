"""Draw pictures with a model and its LoRAs, embeddings and hypernetworks: for class pictures and the verb
`generate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from PIL import Image
from torch import nn
from typing_extensions import Required, Unpack

from ...core.config.parsing import shown
from ...core.errors import UserError
from ..conditioning.learned_tokens import Embedding, table_of
from ..conditioning.text_encoding import Conditioning, TextStack
from ..formats import embedding_file, hypernetwork_file, lora_file
from ..formats.embedding_file import Stored
from ..models.base_model import LatentBase
from ..models.families import TextConditioning
from ..networks import hypernetwork, lora_network
from ..networks.lora_network import TEXT_PARTS
from .sampler import Progress, evaluating, make_sampler, sample_latents


class DrawingOptions(TypedDict, total=False):
    """How pictures are drawn, apart from prompts and seeds: what `Painter.paint_each` takes."""

    width: Required[int]  # pixels
    height: Required[int]
    negative_prompt: str
    steps: int
    cfg_scale: float
    sampler: str
    emphasis: bool
    progress: Progress | None


class KnownPrompts(TextStack):
    """Prompts whose text encoders have left memory: only their encodings are kept, in the computer's."""

    def __init__(self, text: TextStack, prompts: Iterable[str], dtype: torch.dtype):
        """Encode these prompts, without emphasis, and the empty one. dtype: the UNet's."""
        super().__init__([], [], TextConditioning(zeros_for_nothing=text.form.zeros_for_nothing))
        with torch.no_grad(), evaluating(*text.encoders):
            encoded = {prompt: text.encode([prompt]) for prompt in dict.fromkeys(["", *prompts])}
        self._known = {prompt: conditioning.to("cpu", dtype) for prompt, conditioning in encoded.items()}

    def encode(self, prompts: Sequence[str], *, emphasis: bool = False) -> Conditioning:
        """Return the conditioning of one known prompt."""
        (prompt,) = prompts
        assert not emphasis, "they are known without"
        return self._known[prompt]


@dataclass
class Painter:
    """A model's parts, ready to draw. The caller chooses their device and precision, and sets autocast around
    `paint`."""

    unet: nn.Module  # UNet2DConditionModel, not wrapped
    vae: nn.Module  # AutoencoderKL
    text: TextStack
    scheduler_config: Mapping[str, Any]  # of a DDPMScheduler, as `LatentBase.scheduler_config`
    takes_turns: bool = False  # the UNet waits in the computer's memory while the VAE decodes, and the VAE meanwhile

    def paint(self, prompt: str, *, seeds: Sequence[int], **options: Unpack[DrawingOptions]) -> list[Image.Image]:
        """Draw one batch of the same prompt: a picture per seed."""
        return self.paint_each([prompt] * len(seeds), seeds=seeds, **options)

    def paint_each(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        width: int,
        height: int,
        negative_prompt: str = "",
        steps: int = 25,
        cfg_scale: float = 7.5,
        sampler: str = "DPM++ 2M Karras",
        emphasis: bool = True,
        progress: Progress | None = None,
    ) -> list[Image.Image]:
        """Draw one batch of pictures of width x height pixels, each of its own prompt and seed. emphasis: interpret
        brackets as the WebUI does."""
        different = list(dict.fromkeys(prompts))
        rows = [different.index(prompt) for prompt in prompts]
        with torch.no_grad(), evaluating(*self.text.encoders):
            conditioning = self.text.encode(different, emphasis=emphasis).rows(rows)
            negative = None
            if cfg_scale != 1:
                negative = self.text.encode_negative([negative_prompt], emphasis=emphasis).repeat(len(seeds))
        return sample_latents(
            self.unet,
            self.vae,
            make_sampler(sampler, self.scheduler_config),
            conditioning,
            negative,
            seeds=seeds,
            width=width,
            height=height,
            steps=steps,
            cfg_scale=cfg_scale,
            progress=progress,
            takes_turns=self.takes_turns,
        )


def dtype_on(device: torch.device) -> torch.dtype:
    """Return the precision in which a UNet draws: half of it on an NVIDIA card."""
    return torch.float16 if device.type == "cuda" else torch.float32


def load_painter(
    base: LatentBase,
    device: torch.device,
    clip_skip: int | None = None,
    loras: Sequence[tuple[Path, float]] = (),
    embeddings: Sequence[Path] = (),
    hypernetworks: Sequence[tuple[Path, float]] = (),
) -> Painter:
    """Load a base for drawing: the UNet in half precision on an NVIDIA card, the rest in float32.

    loras: files and weights, merged as the WebUI does. embeddings: files whose words the prompts may use.
    hypernetworks: files and strengths. Raises UserError if one does not fit.
    """
    unet = base.unet(dtype_on(device)).to(device)
    text = TextStack(base.tokenizers(), base.text_encoders(), base.family.text, clip_skip=clip_skip).to(device)
    models = {"unet": unet, **dict(zip(TEXT_PARTS, text.encoders, strict=False))}
    for path, weight in loras:
        for component, made in lora_file.read(path, models, "lora").items():
            lora_network.merge(models[component], made, weight)
    text.learn(read_embeddings(embeddings, text, [path for path, _ in loras]))
    for path, strength in hypernetworks:
        made = hypernetwork_file.read(path, "hypernetwork").network().to(device).eval().requires_grad_(False)
        if not hypernetwork.attach(unet, made, strength):
            raise UserError("hypernetwork.changes_nothing", "hypernetwork", file=path.name)
    return Painter(unet, base.vae().to(device), text, base.scheduler_config)


def read_embeddings(paths: Sequence[Path], text: TextStack, loras: Sequence[Path] = ()) -> list[Embedding]:
    """Read the words of these files, and those bundled in LoRAs for which there is no file.

    Raises UserError if one does not fit, or two files have the same word.
    """
    found: dict[str, Embedding] = {}
    wanted = [table_of(encoder).weight.shape[-1] for encoder in text.encoders]
    for path in paths:
        stored = embedding_file.read(path, "embedding")
        embedding_file.check_widths(stored, path, wanted, "embedding")
        word = stored.embedding.word
        if word.lower() in found:
            raise UserError("embedding.two_files", "embedding", word=shown(word))
        found[word.lower()] = stored.embedding
    for path in loras:
        for embedding in embedding_file.read_bundle(path, "lora"):
            embedding_file.check_widths(Stored(embedding), path, wanted, "lora")
            found.setdefault(embedding.word.lower(), embedding)
    return list(found.values())
