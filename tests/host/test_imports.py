"""Other trainers' configurations: what is taken over, what is not and why, and hostile text."""

from __future__ import annotations

import json

import pytest

from dreambooth_ext.checks import range_problems
from dreambooth_ext.config import SETTINGS
from dreambooth_ext.errors import UserError
from dreambooth_ext.host import imports, kohya_names
from dreambooth_ext.host.import_extension import DIRECT as EXTENSION_NAMES
from dreambooth_ext.parsing import parse

SCRIPT = r"""
pretrained_model_name_or_path = 'D:\models\v1-5.safetensors'
output_dir = 'D:\out'
output_name = "sks person v2"
save_model_as = "safetensors"
save_precision = "float"
max_train_steps = 1600
learning_rate = 2e-6
learning_rate_te = 1e-6
stop_text_encoder_training = 400
lr_scheduler = "cosine"
lr_warmup_steps = 100
lr_scheduler_num_cycles = 3
optimizer_type = "AdamW8bit"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.99"]
mixed_precision = "bf16"
xformers = true
gradient_checkpointing = true
min_snr_gamma = 5
noise_offset = 0.05
multires_noise_iterations = 6
clip_skip = 2
seed = 1234
shuffle_caption = true
keep_tokens = 1
max_data_loader_n_workers = 2
color_aug = true

[general]
enable_bucket = true
caption_extension = ".caption"

[[datasets]]
resolution = [768, 768]
batch_size = 2

  [[datasets.subsets]]
  image_dir = 'C:\pictures\sks'
  class_tokens = 'sks person'
  num_repeats = 10

  [[datasets.subsets]]
  is_reg = true
  image_dir = 'C:\reg'
  class_tokens = 'person'
"""


def settings_of(found: imports.Imported) -> dict:
    """The settings, which the rest of the program takes as they are."""
    config, problems = parse(found.settings)
    assert not problems and not range_problems(config)
    return found.settings


def reasons(found: imports.Imported) -> dict[str, str]:
    return {item["name"]: item["reason"] for item in found.ignored}


def test_a_script_with_its_data_set():
    found = imports.read(SCRIPT)
    assert found.source == "kohya sd-scripts"
    assert settings_of(found) == {
        "base_model": r"D:\models\v1-5.safetensors",
        "name": "sks_person_v2",
        "save_precision": "fp32",
        "max_train_steps": 1600,
        "learning_rate": 2e-6,
        "text_encoder_lr": 1e-6,
        "text_encoder_steps": 400,
        "lr_scheduler": "cosine",
        "lr_warmup_steps": 100,
        "optimizer": "adamw8bit",
        "weight_decay": 0.1,
        "optimizer_args": {"betas": [0.9, 0.99]},
        "mixed_precision": "bf16",
        "gradient_checkpointing": True,
        "snr_gamma": 5.0,
        "offset_noise": 0.05,
        "clip_skip": 2,
        "seed": 1234,
        "shuffle_tags": True,
        "keep_tokens": 1,
        "enable_bucket": True,
        "caption_extension": ".caption",
        "use_captions": True,
        "resolution": 768,
        "train_batch_size": 2,
        "instance_data_dir": r"C:\pictures\sks",
        "instance_prompt": "sks person",
        "class_data_dir": r"C:\reg",
        "class_prompt": "person",
    }
    why = reasons(found)
    assert "as fast" in why["xformers"] and "processes" in why["max_data_loader_n_workers"]
    assert why["color_aug"] == imports.NO_COUNTERPART and "along with" in why["multires_noise_iterations"]
    assert why["save_model_as"] == imports.SAME and "class pictures" in why["max_train_steps"]
    assert "lr_scheduler_num_cycles" not in why  # kohya does nothing with it either


def form(**values) -> str:
    """A file of kohya's form, which writes every field."""
    given = {
        "LyCORIS_preset": "",
        "adaptive_noise_scale": 0,
        "cache_latents": True,
        "caption_extension": "",
        "clip_skip": 1,
        "epoch": 10,
        "flip_aug": False,
        "keep_tokens": "0",
        "learning_rate": 1e-05,
        "learning_rate_te": 0,
        "lr_scheduler": "cosine",
        "lr_warmup": 10,
        "max_resolution": "512,512",
        "max_train_epochs": "",
        "max_train_steps": "",
        "min_snr_gamma": 0,
        "noise_offset": 0,
        "noise_offset_type": "Original",
        "multires_noise_iterations": 6,
        "optimizer": "Adafactor",
        "optimizer_args": "scale_parameter=False relative_step=False warmup_init=False",
        "pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5",
        "save_every_n_epochs": 5,
        "sample_every_n_steps": 25,
        "sample_prompts": "a sks cat --n ugly, blurry --w 512\na sks cat in Rome",
        "sample_sampler": "euler_a",
        "seed": "",
        "stop_text_encoder_training": 20,
        "train_batch_size": 2,
        "train_data_dir": "",
        "reg_data_dir": "",
        "v2": False,
        "xformers": "xformers",
    }
    return json.dumps(given | values)


def folder_of(path, pictures):
    path.mkdir(parents=True)
    for number in range(pictures):
        (path / f"{number}.png").write_bytes(b"")


def test_a_form_with_its_folders(tmp_path):
    """ "10_sks cat" is ten repeats and the words; epochs become steps where pictures can be counted."""
    folder_of(tmp_path / "картинки" / "10_sks cat", 6)
    folder_of(tmp_path / "картинки" / "5_zwx dog", 4)
    folder_of(tmp_path / "картинки" / "log", 1)
    folder_of(tmp_path / "reg" / "1_cat", 30)
    found = imports.read(
        form(train_data_dir=str(tmp_path / "картинки"), reg_data_dir=str(tmp_path / "reg"), learning_rate_te=1e-6)
    )
    assert found.source == "kohya_ss"
    given = settings_of(found)
    assert given["concepts"] == [
        {
            "instance_data_dir": str(tmp_path / "картинки" / "10_sks cat"),
            "instance_prompt": "sks cat",
            "class_data_dir": str(tmp_path / "reg" / "1_cat"),
            "class_prompt": "cat",
            "num_class_images": 30,
            "repeats": 10,
        },
        {
            "instance_data_dir": str(tmp_path / "картинки" / "5_zwx dog"),
            "instance_prompt": "zwx dog",
            "class_data_dir": str(tmp_path / "reg" / "1_cat"),
            "class_prompt": "cat",
            "num_class_images": 30,
            "repeats": 5,
        },
    ]
    steps = 10 * (6 * 10 + 4 * 5) // 2
    assert given["num_train_epochs"] == 10 and given["text_encoder_steps"] == steps // 5
    assert given["lr_warmup_steps"] == steps // 10 and given["save_every_n_epochs"] == 5
    assert given["validation_prompts"] == ["a sks cat", "a sks cat in Rome"]
    assert given["validation_negative_prompt"] == "ugly, blurry" and given["validation_sampler"] == "Euler a"
    assert given["optimizer"] == "adafactor" and given["optimizer_args"] == {"scale_parameter": False}
    assert given["caption_extension"] == ".caption" and given["offset_noise"] == 0
    assert "multires_noise_iterations" not in given and "snr_gamma" not in given and "seed" not in given


def test_folders_that_cannot_be_seen(tmp_path):
    for text, may_look in ((form(train_data_dir="C:\\img"), True), (form(train_data_dir=str(tmp_path)), False)):
        found = imports.read(text, may_look=may_look)
        why = reasons(found)
        assert "by hand" in why["train_data_dir"] and found.settings["save_every_n_epochs"] == 5
        assert settings_of(found)["num_train_epochs"] == 10 and "instance_data_dir" not in found.settings
        assert found.settings["text_encoder_steps"] == 0  # its rate is 0


def lora(**values) -> dict:
    return settings_of(imports.read(json.dumps({"network_module": "networks.lora", "max_train_steps": 900, **values})))


def test_a_lora_with_its_rates():
    given = lora(network_dim=32, network_alpha=16, unet_lr=1e-4, text_encoder_lr=5e-5, learning_rate=2e-4)
    assert given == {
        "method": "lora",
        "rank": 32,
        "alpha": 16.0,
        "learning_rate": 1e-4,
        "text_encoder_lr": 5e-5,
        "text_encoder_steps": 900,
        "max_train_steps": 900,
    }
    assert lora(learning_rate=2e-4)["text_encoder_lr"] == 2e-4
    assert (lora(learning_rate=2e-4)["rank"], lora(learning_rate=2e-4)["alpha"]) == (4, 1.0)  # sd-scripts' defaults
    assert lora(learning_rate=2e-4, network_train_unet_only=True)["text_encoder_steps"] == 0
    both = lora(text_encoder_lr=[1e-5, 2e-5], unet_lr=1e-4)
    assert (both["text_encoder_lr"], both["text_encoder_2_lr"]) == (1e-5, 2e-5)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["conv_dim=8", "conv_alpha=8"], {"network_type": "locon", "conv_rank": 8}),
        (["algo=loha"], {"network_type": "loha"}),
        (["algo=lokr", "factor=8"], {"network_type": "lokr", "lokr_factor": 8}),
        (["dora_wd=True"], {"network_type": "dora"}),
        (["algo=diag-oft"], {"network_type": "oft"}),
        (["loraplus_lr_ratio=16"], {"loraplus_lr_ratio": 16.0}),
        (["preset=attn-only"], {"target_modules": ["attention"]}),
        (["rs_lora=True"], {"use_rslora": True}),
    ],
)
def test_a_networks_arguments(arguments, wanted):
    given = lora(network_dim=16, network_alpha=16, network_args=arguments)
    assert {name: given.get(name) for name in wanted} == wanted
    if given.get("network_type") != "oft":
        assert given["alpha"] == 16.0


def test_a_networks_strange_arguments_are_named():
    values = {"network_module": "networks.lora", "network_args": ["algo=glora", "down_lr_weight=1", "x"]}
    why = reasons(imports.read(json.dumps(values)))
    assert "glora" in why["network_args"] and "network_args: down_lr_weight" in why


def test_a_forms_lora():
    """kohya_ss: a part whose rate is 0 is left out, and convolutions are only those of its types that have them."""
    given = settings_of(imports.read(form(LoRA_type="Standard", network_dim=32, network_alpha=16, conv_dim=4,
                                          unet_lr=1e-4, text_encoder_lr=0, max_train_steps=2000)))  # fmt: skip
    assert given["method"] == "lora" and (given["rank"], given["alpha"]) == (32, 16.0)
    assert given["learning_rate"] == 1e-4 and given["text_encoder_steps"] == 0 and "conv_rank" not in given
    given = settings_of(imports.read(form(LoRA_type="LyCORIS/LoCon", network_dim=32, network_alpha=32, conv_dim=4,
                                          conv_alpha=4, unet_lr=1e-4, text_encoder_lr=5e-5)))  # fmt: skip
    assert given["network_type"] == "locon" and given["conv_rank"] == 4 and given["text_encoder_lr"] == 5e-5


def test_a_data_set_that_the_text_names(tmp_path):
    path = tmp_path / "set.toml"
    path.write_text("", encoding="utf-8")
    text = json.dumps({"network_module": "networks.lora", "dataset_config": str(path)})
    assert imports.read(text).settings["dataset_config"] == str(path)
    assert "dataset_config" not in imports.read(text, may_look=False).settings
    assert "paste" in reasons(imports.read(text, may_look=False))["dataset_config"]


def test_tags_that_are_dropped():
    given = settings_of(imports.read('train_data_dir = "x"\ncaption_tag_dropout_rate = 0.1\nkeep_tokens = 2'))
    assert (given["tag_dropout"], given["keep_tokens"]) == (0.1, 2)


def test_finetuning_with_a_metadata_file():
    text = 'in_json = "meta.json"\ntrain_data_dir = "/data/img"\nmax_train_epochs = 4\nlearning_rate = 1e-5\n'
    found = imports.read(text)
    given = settings_of(found)
    assert given["method"] == "finetune" and given["instance_data_dir"] == "/data/img"
    assert given["text_encoder_steps"] == 0 and "use_captions" not in given and "in_json" in reasons(found)


def test_db_config(tmp_path):
    folder_of(tmp_path / "cats", 10)
    concept = {
        "instance_data_dir": str(tmp_path / "cats"),
        "instance_prompt": "a photo of a cat",
        "instance_token": "sks cat",
        "class_token": "cat",
        "class_prompt": "a photo of a cat",
        "class_data_dir": "",
        "num_class_images_per": 5,
        "n_save_sample": 1,
        "save_sample_prompt": "sks cat in Rome",
        "save_guidance_scale": 6,
        "save_infer_steps": 20,
        "save_sample_negative_prompt": "ugly",
    }
    values = {
        "attention": "xformers",
        "cache_latents": True,
        "clip_skip": 1,
        "concepts_list": [concept],
        "gradient_checkpointing": True,
        "half_model": False,
        "hflip": True,
        "learning_rate": 2e-06,
        "lifetime_revision": 3000,
        "lora_unet_rank": 4,
        "lr_scheduler": "constant_with_warmup",
        "lr_warmup_steps": 500,
        "mixed_precision": "fp16",
        "model_name": "Кот sks",
        "num_train_epochs": 100,
        "optimizer": "8bit AdamW",
        "prior_loss_weight": 0.75,
        "resolution": 512,
        "save_embedding_every": 25,
        "save_preview_every": 5,
        "src": "v1-5-pruned.safetensors [6ce0161689]",
        "stop_text_encoder": 0.75,
        "train_batch_size": 2,
        "use_ema": True,
        "use_lora": False,
        "tf32_enable": True,
    }
    bases = [{"title": "v1-5-pruned.safetensors", "path": "/models/v1-5-pruned.safetensors"}]
    found = imports.read(json.dumps(values), bases)
    assert found.source == "sd_dreambooth_extension"
    assert settings_of(found) == {
        "cache_latents": True,
        "gradient_checkpointing": True,
        "random_flip": True,
        "learning_rate": 2e-6,
        "clip_skip": 1,
        "lr_scheduler": "constant_with_warmup",
        "lr_warmup_steps": 500,
        "mixed_precision": "fp16",
        "name": "sks",
        "num_train_epochs": 100,
        "optimizer": "adamw8bit",
        "prior_loss_weight": 0.75,
        "resolution": 512,
        "checkpointing_steps": 125,
        "validation_steps": 25,
        "save_precision": "fp32",
        "base_model": "/models/v1-5-pruned.safetensors",
        "text_encoder_steps": 375,
        "train_batch_size": 2,
        "use_ema": True,
        "instance_data_dir": str(tmp_path / "cats"),
        "instance_prompt": "a photo of a sks cat",
        "class_prompt": "a photo of a cat",
        "num_class_images": 50,
        "validation_prompts": ["sks cat in Rome"],
        "validation_negative_prompt": "ugly",
        "validation_guidance_scale": 6.0,
        "validation_inference_steps": 20,
    }
    why = reasons(found)
    assert "LoRA" in why["lora_unet_rank"] and why["tf32_enable"] == imports.NO_COUNTERPART
    assert "counters" in why["lifetime_revision"]


def test_class_prompts_without_class_pictures_ask_for_none():
    concepts = [
        {"instance_data_dir": "/a", "instance_prompt": "sks dog", "class_prompt": "dog", "num_class_images_per": 0},
        {"instance_data_dir": "/b", "instance_prompt": "[filewords]", "instance_token": "zwx cat"},
        {"instance_prompt": "nothing"},
    ]
    found = imports.read(json.dumps(concepts))
    assert settings_of(found)["concepts"] == [
        {"instance_data_dir": "/a", "instance_prompt": "sks dog", "repeats": 1},
        {"instance_data_dir": "/b", "instance_prompt": "zwx cat", "repeats": 1},
    ]
    assert found.settings["use_captions"] is True
    assert set(reasons(found)) == {"concepts_list[0].class_prompt", "concepts_list[2]"}


def test_our_own_config():
    found = imports.read(json.dumps({"max_train_steps": 700, "loss_type": "l2", "seed": "many", "colour": 1}))
    assert settings_of(found) == {"max_train_steps": 700}
    assert found.source == "dreambooth_ext" and set(reasons(found)) == {"seed", "colour"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("[1, 2]", "TOML"),
        ("[]", "no settings"),
        ("{}", "known here"),
        ('{"colour": 1}', "known here"),
        ('{"src": "C:\\models"}', r"with / or with \\"),
        ('{"a": ', "no JSON"),
        ("output_name = ", "neither JSON nor TOML"),
        ("hello", "neither JSON nor TOML"),
        ('{"a":' * 50 + "1" + "}" * 50, "deeply"),
        ("[" * 100_000, "TOML"),
        ('{"a":' * 50_000, "JSON"),
        ("x" * (imports.LARGEST + 1), "letters"),
    ],
)
def test_what_cannot_be_read_says_so(text, part):
    with pytest.raises(UserError) as caught:
        imports.read(text)
    assert caught.value.problem.field == "text" and caught.value.problem.remedy
    assert part in str(caught.value)


ODD = [None, True, -1, 0, 1e308, float("inf"), 10**400, "", "x" * 5000, "\0", "\ud800", [], [1], {}, {"a": []}, [[{}]]]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
def test_no_value_is_taken_on_trust(odd):
    """Any type under any name: an answer comes, and all that is taken over is fit."""
    names = {*kohya_names.DIRECT, *kohya_names.WHEN, *kohya_names.READ_APART, *kohya_names.ALIASES}
    for values in (
        dict.fromkeys(names, odd),
        {"datasets": odd, "train_data_dir": "/a"},
        {"datasets": [{"subsets": odd}], "train_data_dir": odd},
        {"datasets": [{"subsets": [dict.fromkeys(names, odd) | {"image_dir": "/a"}]}], "output_name": odd},
        dict.fromkeys({*EXTENSION_NAMES, *names}, odd) | {"lifetime_revision": odd},
        {"concepts_list": odd, "num_train_epochs": odd},
        {"concepts_list": [{"instance_data_dir": "/a", "class_prompt": odd, "num_class_images_per": odd}]},
        dict.fromkeys(SETTINGS, odd),
    ):
        try:
            text = json.dumps(values)
        except (ValueError, RecursionError):
            continue
        try:
            found = imports.read(text)
        except UserError as error:
            assert error.problem.field == "text"
            continue
        settings_of(found)
        json.dumps(found.as_dict())


def test_every_name_of_ours_is_a_setting():
    for ours in [
        *kohya_names.DIRECT.values(),
        *EXTENSION_NAMES.values(),
        *(row[0] for row in kohya_names.WHEN.values()),
    ]:
        assert ours in SETTINGS


def test_toml_on_a_python_without_a_reader(monkeypatch):
    monkeypatch.setattr("dreambooth_ext.toml.READERS", ())
    with pytest.raises(UserError, match="cannot read TOML"):
        imports.read(SCRIPT)
