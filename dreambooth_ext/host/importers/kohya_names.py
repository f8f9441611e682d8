"""Maps the names of kohya's settings to ours, with reasons for those that have no counterpart."""

from __future__ import annotations

import re

from ...core.data import kohya_dataset
from ...core.facts.lora_types import LORA_TYPES
from ...core.messages.message import Message
from .common import NO_COUNTERPART

# Names that only kohya's files have
MARKS = {
    *("optimizer_type", "network_dim", "unet_lr", "token_string", "image_folder", "train_dir", "in_json"),
    *("pretrained_model_name_or_path", "train_data_dir", "network_module", "max_resolution"),
    *("LoRA_type", "output_name", "save_model_as", "datasets", "shuffle_caption", "max_train_epochs", "reg_data_dir"),
}
# The same thing under the names of kohya_ss and of the data set's configuration
ALIASES = {"max_resolution": "resolution", "optimizer": "optimizer_type", "batch_size": "train_batch_size"}
ALIASES |= {"caption_extention": "caption_extension", "sdxl_checkbox": "sdxl", "image_folder": "train_data_dir"}
ALIASES |= {"stop_text_encoder_training_pct": "stop_text_encoder_training", "lora_network_weights": "network_weights"}
# By what a file is told to be for textual inversion or fine-tuning: names that only those scripts and forms have
WORD_NAMES = ("token_string", "init_word", "num_vectors_per_token", "use_object_template", "use_style_template")
FINETUNE_NAMES = {
    *("create_caption", "create_buckets", "generate_caption_database", "generate_image_buckets", "full_path"),
    *("caption_metadata_filename", "latent_metadata_filename", "use_latent_files", "image_folder", "train_dir"),
}
METADATA_NAMES = ("in_json", "metadata_file")
LORA_NAMES = ("network_module", "network_dim", "network_weights", "unet_lr")
# Boxes of kohya_ss that say which kind of model it is
OTHER_KINDS = ("sd3_checkbox", "flux1_checkbox", "hunyuan_image_checkbox", "anima_checkbox", "lumina_checkbox")

# Theirs -> ours, where the value means the same
DIRECT = {
    "adaptive_noise_scale": "adaptive_noise_scale",
    "alpha_mask": "alpha_as_loss_weight",
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
    "validation_split": "validation_split",
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
# Those that need more than a new name; kohya.py reads them
NAMES_READ_APART = """
additional_parameters caption_separator class_tokens dataset_config dataset_repeats datasets debiased_estimation_loss
epoch general
conditioning_data_dir
caption_metadata_filename create_buckets create_caption full_path generate_caption_database generate_image_buckets
init_word latent_metadata_filename num_vectors_per_token template token_string train_dir use_latent_files
use_object_template use_style_template weights
masked_loss
image_dir in_json is_reg keep_tokens learning_rate learning_rate_te learning_rate_te1 learning_rate_te2 lr_warmup
lr_warmup_steps max_train_epochs max_train_steps metadata_file multires_noise_discount network_module
noise_offset_type num_repeats optimizer_args optimizer_type output_name pretrained_model_name_or_path
prior_loss_weight random_crop reg_data_dir resolution sample_every_n_epochs sample_every_n_steps sample_prompts
sample_sampler save_every_n_epochs save_every_n_steps save_model_as save_precision sdxl stop_text_encoder_training
train_data_dir train_text_encoder use_8bit_adam use_lion_optimizer use_safetensors v_parameterization
"""
READ_APART = frozenset(NAMES_READ_APART.split())

# Of a LoRA; kohya_lora.py reads them
NAMES_OF_LORA = """
LoRA_type LyCORIS_preset conv_alpha conv_dim decompose_both dora_wd factor loraplus_lr_ratio network_alpha network_args
network_dim network_dropout network_train_text_encoder_only network_train_unet_only network_weights text_encoder_lr
unet_lr
"""
LORA_OPTIONS = tuple(NAMES_OF_LORA.split())
READ_APART |= frozenset((*LORA_OPTIONS, *OTHER_KINDS))


def _of_our_types() -> dict[str, tuple[str, ...]]:
    """kohya_ss' fields -> the LoRA types that they apply to, for types that exist here, too."""
    found: dict[str, tuple[str, ...]] = {}
    for facts in LORA_TYPES.values():
        for field in facts.form_fields:
            found[field] = (*found.get(field, ()), *facts.algorithms)
    return found


# Fields of kohya_ss that are for one type of LoRA, and written for all
OF_TYPES = {
    "unit": ("dylora",),
    "train_on_input": ("ia3",),
    "use_tucker": ("lycoris",),
    "train_norm": ("lycoris",),
    "rank_dropout_scale": ("lycoris",),
    **_of_our_types(),
}
_LORA = (
    r"network_reg_.*|conv_(block_)?(dims|alphas)|block_(dims|alphas|lr_zero_threshold)|(down|mid|up)_lr_weight"
    r"|dim_from_weights|scale_weight_norms|(rank|module)_dropout|loraplus_\w+|base_weights(_multiplier)?|"
) + "|".join(OF_TYPES)
_OTHER_MODELS = (
    r"(sd3|flux1?|hunyuan_image|anima|lumina|chroma)_\w+|clip_[lg]|clip_[lg]_dropout_rate|t5xxl\w*|t5_\w+|ae"
    r"|apply_\w*attn_mask|discrete_flow_shift|guidance_scale|logit_(mean|std)|mode_scale|weighting_scheme"
    r"|model_prediction_type|timestep_sampling|(save|text_encoder)_(clip|t5xxl|batch_size)|(single|double)_blocks_to_swap"
    r"|split_mode|split_qkv|train_(blocks|double_block_indices|single_block_indices|t5xxl)|enable_scaled_pos_embed"
    r"|pos_emb_random_crop_rate|blockwise_fused_optimizers|(img|txt)_\w+_dim|single_(dim|mod_dim)|in_dims"
)
REASONS = {
    Message("import.of_lora"): _LORA,
    Message("import.of_other_models"): _OTHER_MODELS,
    Message("import.own_attention"): r"xformers|sdpa|mem_eff_attn|diffusers_xformers",
    Message("import.full_precision"): r"full_fp16|full_bf16|fp8_base(_unet)?"
    r"|(sdxl_)?no_half_vae",
    Message("import.seen_in_base"): r"v2|model_list",
    Message("import.own_vae"): r"vae|vae_batch_size",
    Message("import.own_places"): r"output_dir|logging_dir|use_wandb"
    r"|wandb_(api_key|run_name)|log_(with|prefix|config|tracker_name|tracker_config)",
    Message("import.not_resumed"): r"resume|resume_from_huggingface|save_state\w*"
    r"|initial_(epoch|step)|skip_until_initial_step",
    Message("import.models_stay"): r"save_last_n_\w+|save_n_epoch_ratio",
    Message("import.own_processes"): r"num_(processes|machines|cpu_threads_per_process|workers)"
    r"|max_data_loader_n_workers|persistent_data_loader_workers|gpu_ids|multi_gpu|main_process_port|lowv?ram|highvram"
    r"|dynamo_(backend|mode|use_fullgraph|use_dynamic)|extra_accelerate_launch_args|ddp_\w+|blocks_to_swap|mem_eff_save"
    r"|cpu_offload_checkpointing|disable_mmap_load_safetensors|skip_cache_check|fused_(backward_pass|optimizer_groups)"
    r"|(sdxl_)?cache_text_encoder_outputs(_to_disk)?|torch_compile|save_as_bool",
    Message("import.not_uploaded"): r"huggingface_\w+|async_upload",
    Message("import.only_describes"): r"metadata_(author|description|license|tags|title)|training_comment",
    **{Message("import.different", reason=different): name for name, different in kohya_dataset.DIFFERENT.items()},
}


def reason_against(name: str) -> Message:
    """Why a setting of kohya's is not imported, as a sentence."""
    return next((reason for reason, pattern in REASONS.items() if re.fullmatch(pattern, name)), NO_COUNTERPART)
