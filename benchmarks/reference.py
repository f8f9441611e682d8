"""A training loop on diffusers, transformers and peft alone, with nothing of the engine: what its numbers are held to.

tests/engine/training/test_reference_loop.py gives both the same draws and compares their losses; chance.py lets each
make its own draws and compares what the models learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

# diffusers' and transformers' names of the layers that a LoRA of attention and feed-forward layers changes
UNET_LAYERS = r".*(attn[12]\.(to_[qkv]|to_out\.0)|attentions\.\d+\.proj_(in|out)|ff\.net\.(0\.proj|2))"
TEXT_LAYERS = r".*(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"

END = "<|endoftext|>"


@dataclass
class Step:
    """One step's pictures and draws: latents (b, 4, h, w), scaled; noise alike; timesteps (b,); time_ids (b, 6), SDXL.

    With prior preservation the second half are class pictures.
    """

    latents_bchw: Tensor
    noise_bchw: Tensor
    timesteps_b: Tensor
    captions: list[str]
    time_ids_b6: Tensor | None = None


class Reference:
    """Models of a diffusers folder and their AdamW; `train_all`, `train_lora` or `train_word` says what learns."""

    def __init__(self, folder: Path, tokenizer: Path, *, prior_loss_weight: float | None = None, pad: str = END):
        """pad: what fills captions up; the end mark in SD 1 and SDXL's first encoder, "!" in SD 2 and SDXL's second."""
        self.prior_loss_weight = prior_loss_weight
        self.is_sdxl = (folder / "text_encoder_2").is_dir()
        self.unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").train().requires_grad_(False)
        self.scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        self.encoders: list[nn.Module] = [CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")]
        self.tokenizers = [CLIPTokenizer.from_pretrained(tokenizer, pad_token=pad)]
        if self.is_sdxl:
            self.encoders.append(CLIPTextModelWithProjection.from_pretrained(folder, subfolder="text_encoder_2"))
            self.tokenizers.append(CLIPTokenizer.from_pretrained(tokenizer, pad_token="!"))
        for encoder in self.encoders:
            encoder.train().requires_grad_(False)
        self.words: list[tuple[nn.Parameter, int]] = []  # a vocabulary's weight, and the row of it that learns

    # --- what learns

    def train_all(self, rate: float, text_rate: float, weight_decay: float = 1e-2) -> None:
        self.unet.requires_grad_(True)
        groups = [{"params": list(self.unet.parameters()), "lr": rate}]
        for encoder in self.encoders if text_rate else []:
            groups.append({"params": list(encoder.requires_grad_(True).parameters()), "lr": text_rate})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)

    def train_lora(self, rank: int, rate: float, text_rate: float, weight_decay: float = 1e-2) -> None:
        """Alpha is the rank, as the engine has it where nothing is said."""
        groups = []
        for model, layers, own in [
            (self.unet, UNET_LAYERS, rate),
            *((e, TEXT_LAYERS, text_rate) for e in self.encoders),
        ]:
            inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), model)
            groups.append({"params": [p for p in model.parameters() if p.requires_grad], "lr": own})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)

    def train_word(self, word: str, initializer: str, rate: float) -> None:
        """A new row of each vocabulary, which begins as another word's."""
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            (first,) = tokenizer(initializer, add_special_tokens=False).input_ids
            tokenizer.add_tokens(word)
            encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            vocabulary = encoder.get_input_embeddings().weight.requires_grad_(True)
            row = tokenizer.convert_tokens_to_ids(word)
            vocabulary.data[row] = vocabulary.data[first]
            self.words.append((vocabulary, row))
        self.optimizer = torch.optim.AdamW([weight for weight, _ in self.words], lr=rate, weight_decay=0)

    def freeze_text(self) -> None:
        """What the text encoders have learned stays; they learn no more."""
        for encoder in self.encoders:
            encoder.requires_grad_(False)
        del self.optimizer.param_groups[1:]

    # --- a step

    def step(self, given: Step, max_grad_norm: float = 1.0) -> float:
        """Train on it. Returns the loss before the step."""
        loss = self.loss(given)
        loss.backward()
        for weight, row in self.words:  # nothing but the word learns
            others = torch.arange(len(weight)) != row
            weight.grad[others] = 0
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def loss(self, given: Step) -> Tensor:
        noisy_bchw = self.scheduler.add_noise(given.latents_bchw, given.noise_bchw, given.timesteps_b)
        hidden_bsd, pooled_bp = self.encode(given.captions)
        added = {"text_embeds": pooled_bp, "time_ids": given.time_ids_b6} if self.is_sdxl else None
        predicted_bchw = self.unet(noisy_bchw, given.timesteps_b, hidden_bsd, added_cond_kwargs=added).sample
        target_bchw = given.noise_bchw
        if self.scheduler.config.prediction_type == "v_prediction":
            target_bchw = self.scheduler.get_velocity(given.latents_bchw, given.noise_bchw, given.timesteps_b)
        if self.prior_loss_weight is None:
            return F.mse_loss(predicted_bchw, target_bchw)
        (own, prior), (own_target, prior_target) = predicted_bchw.chunk(2), target_bchw.chunk(2)
        return F.mse_loss(own, own_target) + self.prior_loss_weight * F.mse_loss(prior, prior_target)

    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """(b, 77, width), and SDXL's pooled (b, p)."""
        hidden, pooled = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            tokens = tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            output = encoder(tokens.input_ids, output_hidden_states=True)
            hidden.append(output.hidden_states[-2] if self.is_sdxl else output.last_hidden_state)
            pooled = output.get("text_embeds")
        return torch.cat(hidden, dim=-1), pooled
