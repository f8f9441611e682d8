"""The names of kohya's settings beside ours, and why the others have none."""

from __future__ import annotations

import re

from .imports import NO_COUNTERPART

# Names that only kohya's files have
MARKS = {
    *("pretrained_model_name_or_path", "train_data_dir", "network_module", "optimizer_type", "max_resolution"),
    *("LoRA_type", "output_name", "save_model_as", "datasets", "shuffle_caption", "max_train_epochs", "reg_data_dir"),
}
# The same thing under the names of kohya_ss and of the data set's configuration
ALIASES = {"max_resolution": "resolution", "optimizer": "optimizer_type", "batch_size": "train_batch_size"}
ALIASES |= {"caption_extention": "caption_extension", "sdxl_checkbox": "sdxl", "image_folder": "train_data_dir"}
ALIASES |= {"train_dir": "train_data_dir", "stop_text_encoder_training_pct": "stop_text_encoder_training"}

# Theirs -> ours, where the value means the same
DIRECT = {
    "adaptive_noise_scale": "adaptive_noise_scale",
    "cache_latents": "cache_latents",
    "cache_latents_to_disk": "cache_latents_to_disk",
    "caption_dropout_rate": "caption_dropout",
    "caption_extension": "caption_extension",
    "caption_tag_dropout_rate": "tag_dropout",
    "clip_skip": "clip_skip",
    "enable_bucket": "enable_bucket",
    "flip_aug": "random_flip",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "gradient_checkpointing",
    "ip_noise_gamma": "ip_noise_gamma",
    "loss_type": "loss_type",
    "lr_scheduler": "lr_scheduler",
    "max_grad_norm": "max_grad_norm",
    "max_timestep": "max_timestep",
    "max_token_length": "max_token_length",
    "min_snr_gamma": "snr_gamma",
    "min_timestep": "min_timestep",
    "mixed_precision": "mixed_precision",
    "multires_noise_iterations": "multires_noise_iterations",
    "noise_offset": "offset_noise",
    "seed": "seed",
    "shuffle_caption": "shuffle_tags",
    "train_batch_size": "train_batch_size",
    "zero_terminal_snr": "zero_terminal_snr",
}
# Only where another setting makes them do something; elsewhere our checks would refuse what kohya passes over
WHEN = {
    "huber_c": ("huber_c", "loss_type", ("huber", "smooth_l1")),
    "huber_schedule": ("huber_schedule", "loss_type", ("huber", "smooth_l1")),
    "lr_scheduler_num_cycles": ("lr_num_cycles", "lr_scheduler", ("cosine_with_restarts",)),
    "lr_scheduler_power": ("lr_power", "lr_scheduler", ("polynomial",)),
}
ZERO_IS_SAID = ("noise_offset", "gradient_checkpointing", "cache_latents", "max_grad_norm")
OPTIMIZERS = {
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "pagedadamw8bit": "paged_adamw8bit",
    "lion": "lion",
    "adafactor": "adafactor",
    "prodigy": "prodigy",
    "sgdnesterov": "sgd",
}
SAMPLERS = {
    "ddim": "DDIM",
    "lms": "LMS",
    "k_lms": "LMS",
    "euler": "Euler",
    "k_euler": "Euler",
    "euler_a": "Euler a",
    "k_euler_a": "Euler a",
    "heun": "Heun",
    "dpmsolver++": "DPM++ 2M",
}
# Those that need more than a new name; import_kohya.py reads them
NAMES_READ_APART = """
additional_parameters caption_separator class_tokens dataset_config dataset_repeats datasets debiased_estimation_loss
epoch general
image_dir in_json is_reg keep_tokens learning_rate learning_rate_te learning_rate_te1 learning_rate_te2 lr_warmup
lr_warmup_steps max_train_epochs max_train_steps metadata_file multires_noise_discount network_module
noise_offset_type num_repeats optimizer_args optimizer_type output_name pretrained_model_name_or_path
prior_loss_weight random_crop reg_data_dir resolution sample_every_n_epochs sample_every_n_steps sample_prompts
sample_sampler save_every_n_epochs save_every_n_steps save_model_as save_precision sdxl stop_text_encoder_training
train_data_dir train_text_encoder use_8bit_adam use_lion_optimizer use_safetensors v_parameterization
"""
READ_APART = frozenset(NAMES_READ_APART.split())

# Of a LoRA; import_kohya_lora.py reads them
NAMES_OF_LORA = """
LoRA_type LyCORIS_preset conv_alpha conv_dim decompose_both dora_wd factor loraplus_lr_ratio network_alpha network_args
network_dim network_dropout network_train_text_encoder_only network_train_unet_only network_weights text_encoder_lr
unet_lr
"""
LORA_OPTIONS = tuple(NAMES_OF_LORA.split())
READ_APART |= frozenset(LORA_OPTIONS)
LORA = (
    r"network_.*|conv_.*|lora_.*|.*block.*|.*_lr_weight|dim_from_weights"
    r"|scale_weight_norms|(rank|module)_dropout.*|train_(norm|on_input)|use_(tucker|cp|scalar)"
    r"|constrain|rescaled|bypass_mode|unit|base_weights.*"
)
REASONS = {
    "belongs to LoRA, and has no counterpart here.": LORA,
    "PyTorch's own attention is as fast, and is always there.": r"xformers|sdpa|mem_eff_attn|diffusers_xformers",
    "weights are trained in 32 bits here, which loses nothing.": r"full_fp16|full_bf16|fp8_base.*|.*no_half_vae",
    "what the base is, is seen in its file.": r"v2|v_pred.*|sd3.*|flux.*|model_list",
    "the base's own VAE is used.": r"vae|vae_batch_size",
    "models go into the WebUI's folders, runs into theirs.": r"output_dir|logging_dir|log_.*|wandb.*|use_wandb",
    "runs that were made here are resumed, not other trainers'.": r"resume.*|save_state.*|save_last_.*|initial_.*",
    "is about the other trainer's own processes.": r"num_.*|max_data_loader_.*|persistent_data_loader_.*"
    r"|gpu_ids|multi_gpu|main_process_port|dynamo_.*|extra_accelerate_.*|ddp_.*|lowram|highvram|max_bucket_reso|min_bucket_reso",
    "is never uploaded from here.": r"huggingface_.*|async_upload",
}


def reason_against(name: str) -> str:
    """Why a setting of kohya's is not taken over, as a sentence."""
    return next((reason for reason, pattern in REASONS.items() if re.fullmatch(pattern, name)), NO_COUNTERPART)
