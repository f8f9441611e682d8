"""Other trainers' configurations: what is taken over, what is not and why, and hostile text."""

from __future__ import annotations

import json

import pytest

from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.checks.config_checks import range_problems
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.importers import common, kohya_names, read
from dreambooth_ext.host.importers.sd_dreambooth_extension import DIRECT as EXTENSION_NAMES

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


def settings_of(found: common.Imported) -> dict:
    """The settings, which the rest of the program takes as they are."""
    config, problems = parse(found.settings)
    assert not problems and not range_problems(config)
    return found.settings


def reasons(found: common.Imported) -> dict[str, str]:
    return {item["name"]: item["reason"] for item in found.ignored}


def test_a_script_with_its_data_set():
    found = read.read(SCRIPT)
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
    assert why["color_aug"] == common.NO_COUNTERPART and "combined with" in why["multires_noise_iterations"]
    assert why["save_model_as"] == common.SAME and "class pictures" in why["max_train_steps"]
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
    found = read.read(
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
        found = read.read(text, may_look=may_look)
        why = reasons(found)
        assert "by hand" in why["train_data_dir"] and found.settings["save_every_n_epochs"] == 5
        assert settings_of(found)["num_train_epochs"] == 10 and "instance_data_dir" not in found.settings
        assert found.settings["text_encoder_steps"] == 0  # its rate is 0


def lora(**values) -> dict:
    return settings_of(read.read(json.dumps({"network_module": "networks.lora", "max_train_steps": 900, **values})))


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
    why = reasons(read.read(json.dumps(values)))
    assert "glora" in why["network_args"] and "network_args: down_lr_weight" in why


def test_a_forms_lora():
    """kohya_ss: a part whose rate is 0 is left out, and convolutions are only those of its types that have them."""
    given = settings_of(read.read(form(LoRA_type="Standard", network_dim=32, network_alpha=16, conv_dim=4,
                                          unet_lr=1e-4, text_encoder_lr=0, max_train_steps=2000)))  # fmt: skip
    assert given["method"] == "lora" and (given["rank"], given["alpha"]) == (32, 16.0)
    assert given["learning_rate"] == 1e-4 and given["text_encoder_steps"] == 0 and "conv_rank" not in given
    given = settings_of(read.read(form(LoRA_type="LyCORIS/LoCon", network_dim=32, network_alpha=32, conv_dim=4,
                                          conv_alpha=4, unet_lr=1e-4, text_encoder_lr=5e-5)))  # fmt: skip
    assert given["network_type"] == "locon" and given["conv_rank"] == 4 and given["text_encoder_lr"] == 5e-5


def test_a_data_set_that_the_text_names(tmp_path):
    path = tmp_path / "set.toml"
    path.write_text("", encoding="utf-8")
    text = json.dumps({"network_module": "networks.lora", "dataset_config": str(path)})
    assert read.read(text).settings["dataset_config"] == str(path)
    assert "dataset_config" not in read.read(text, may_look=False).settings
    assert "paste" in reasons(read.read(text, may_look=False))["dataset_config"]


def test_tags_that_are_dropped():
    given = settings_of(read.read('train_data_dir = "x"\ncaption_tag_dropout_rate = 0.1\nkeep_tokens = 2'))
    assert (given["tag_dropout"], given["keep_tokens"]) == (0.1, 2)


def test_finetuning_with_a_metadata_file():
    text = 'in_json = "meta.json"\ntrain_data_dir = "/data/img"\nmax_train_epochs = 4\nlearning_rate = 1e-5\n'
    found = read.read(text)
    given = settings_of(found)
    assert given["method"] == "finetune" and given["instance_data_dir"] == "/data/img"
    assert given["text_encoder_steps"] == 0 and "use_captions" not in given and "in_json" in reasons(found)


@pytest.mark.parametrize("name", ["in_json", "metadata_file"])
def test_a_loras_captions_in_a_metadata_file_are_told(tmp_path, name):
    """As in fine-tuning; the folder is then none of "10_sks person", in sd-scripts too."""
    (tmp_path / "10_sks person").mkdir()
    given = {"network_module": "networks.lora", "train_data_dir": str(tmp_path), name: "/m.json", "dataset_repeats": 3}
    found = read.read(json.dumps({**given, "max_train_epochs": 2}))
    assert "this file in their folder" in reasons(found)[name] and found.settings["use_captions"] is True
    assert found.settings["concepts"] == [{"instance_data_dir": str(tmp_path), "repeats": 3}]
    assert "concepts" not in read.read(json.dumps({**given, "max_train_steps": 20})).settings


def test_a_lokr_of_two_decomposed_matrices_is_told():
    form = {"LoRA_type": "LyCORIS/LoKr", "network_dim": 4, "factor": 4, "decompose_both": True}
    assert "decompose_both" in reasons(read.read(json.dumps(form)))
    for other in ({**form, "decompose_both": False}, {**form, "LoRA_type": "Standard"}):
        assert "decompose_both" not in reasons(read.read(json.dumps(other)))


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
    found = read.read(json.dumps(values), bases)
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
    assert "lora_unet_rank" not in why and why["tf32_enable"] == common.NO_COUNTERPART  # no LoRA: it does nothing
    assert "counters" in why["lifetime_revision"]


def test_class_prompts_without_class_pictures_ask_for_none():
    concepts = [
        {"instance_data_dir": "/a", "instance_prompt": "sks dog", "class_prompt": "dog", "num_class_images_per": 0},
        {"instance_data_dir": "/b", "instance_prompt": "[filewords]", "instance_token": "zwx cat"},
        {"instance_prompt": "nothing"},
    ]
    found = read.read(json.dumps(concepts))
    assert settings_of(found)["concepts"] == [
        {"instance_data_dir": "/a", "instance_prompt": "sks dog", "repeats": 1},
        {"instance_data_dir": "/b", "instance_prompt": "zwx cat", "repeats": 1},
    ]
    assert found.settings["use_captions"] is True
    assert set(reasons(found)) == {"concepts_list[0].class_prompt", "concepts_list[2]"}


# --- the method first


def told(found: common.Imported) -> dict[str, str]:
    """What was not taken over, with the values that are told."""
    return {item["name"]: item.get("value", "") for item in found.ignored}


def word_form(**values) -> str:
    """kohya_ss' form of textual inversion: no other has these fields."""
    own = {"token_string": "zxc", "init_word": "toy", "num_vectors_per_token": 4, "template": "style template"}
    return form(
        **{"learning_rate": 0.005, "optimizer": "AdamW8bit", "optimizer_args": "", "weights": "", **own, **values}
    )


def test_a_form_of_textual_inversion(tmp_path):
    folder_of(tmp_path / "img" / "10_zxc", 6)
    folder_of(tmp_path / "img" / "2_more", 3)
    found = read.read(word_form(train_data_dir=str(tmp_path / "img"), caption_dropout_rate=0.05, reg_data_dir="/reg"))
    given = settings_of(found)
    assert given["method"] == "textual_inversion" and given["learning_rate"] == 0.005
    assert (given["placeholder_token"], given["initializer_token"], given["num_vectors"]) == ("zxc", "toy", 4)
    assert given["prompt_template"] == "style" and given["use_captions"] is False  # kohya's templates have none
    assert given["instance_data_dir"] == str(tmp_path / "img") and given["repeats_from_folders"] is True
    assert "concepts" not in given and "text_encoder_steps" not in given and "instance_prompt" not in given
    assert given["lr_warmup_steps"] == 10 * (6 * 10 + 3 * 2) // 2 // 10
    assert told(found)["caption_dropout_rate"] == "0.05" and told(found)["reg_data_dir"] == "/reg"


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"template": "object template"}, {"prompt_template": "subject", "use_captions": False}),
        (
            {"template": "caption"},
            {"instance_prompt": "[filewords]", "use_captions": True, "caption_extension": ".caption"},
        ),
        ({"num_vectors_per_token": 1}, {"num_vectors": 1}),  # not the guide's number
        ({"save_model_as": "pt"}, {"save_format": "pt"}),
        (
            {"weights": "/old/zxc.pt", "num_vectors_per_token": 8},
            {"embedding_weights": "/old/zxc.pt", "num_vectors": None, "initializer_token": None},
        ),
    ],
)
def test_a_words_options(values, wanted):
    found = read.read(word_form(**values))
    assert {name: settings_of(found).get(name) for name in wanted} == wanted
    if "weights" in values:
        assert told(found)["num_vectors_per_token"] == "8" and told(found)["init_word"] == "toy"


def test_a_script_of_textual_inversion():
    text = """
    pretrained_model_name_or_path = 'model.safetensors'
    token_string = "zxc"
    init_word = "toy"
    use_object_template = true
    learning_rate = 5e-4
    max_train_steps = 900
    [[datasets]]
    [[datasets.subsets]]
    image_dir = '/img/toy'
    class_tokens = 'zxc toy'
    [[datasets.subsets]]
    image_dir = '/img/other'
    """
    found = read.read(text)
    assert settings_of(found) == {
        "method": "textual_inversion",
        "placeholder_token": "zxc",
        "initializer_token": "toy",
        "num_vectors": 1,
        "prompt_template": "subject",
        "use_captions": False,
        "base_model": "model.safetensors",
        "instance_data_dir": "/img/toy",
        "learning_rate": 5e-4,
        "max_train_steps": 900,
    }
    assert told(found)["image_dir"] == "/img/other"


FINETUNE_FORMS = {
    "old": {"create_caption": True, "create_buckets": True, "full_path": True, "use_latent_files": "No"},
    "new": {
        "generate_caption_database": True,
        "generate_image_buckets": True,
        "latent_metadata_filename": "meta_lat.json",
    },
    "its folders": {},
}


@pytest.mark.parametrize("fields", FINETUNE_FORMS.values(), ids=FINETUNE_FORMS)
def test_a_form_of_finetuning(tmp_path, fields):
    """By any of its own names; the pictures are in image_folder, and train_dir is where kohya's lists go."""
    folder_of(tmp_path / "img", 8)
    own = {"image_folder": str(tmp_path / "img"), "train_dir": "/lists", "dataset_repeats": "5", **fields}
    found = read.read(form(**own, learning_rate=1e-6, caption_metadata_filename="meta_cap.json", learning_rate_te=1e-6))
    given = settings_of(found)
    assert given["method"] == "finetune" and given["instance_data_dir"] == str(tmp_path / "img")
    assert given["num_train_epochs"] == 50 and given["text_encoder_steps"] * 5 == 50 * 8 // 2  # 20 %, batches of 2
    assert "use_captions" not in given and "concepts" not in given


def test_metadata_that_was_made_already_is_told():
    found = read.read(form(image_folder="/img", create_caption=False, caption_metadata_filename="mine.json"))
    assert told(found)["caption_metadata_filename"] == "mine.json"


def test_a_lora_whose_module_stands_on_the_command_line():
    found = read.read('pretrained_model_name_or_path = "x"\nnetwork_dim = 8\nunet_lr = 1e-4\nlearning_rate = 1e-4')
    assert settings_of(found)["method"] == "lora" and found.settings["rank"] == 8


def test_a_plain_form_is_dreambooth_of_the_whole_model():
    assert "method" not in settings_of(read.read(form()))


@pytest.mark.parametrize("name", ["sd3_checkbox", "flux1_checkbox"])
def test_models_of_another_kind_are_told(name):
    assert "cannot be trained here" in reasons(read.read(form(**{name: True})))[name]
    assert name not in reasons(read.read(form(**{name: False})))


def test_db_config_of_a_lora():
    values = {
        "lifetime_revision": 0,
        "use_lora": True,
        "use_lora_extended": True,
        "lora_unet_rank": 8,
        "lora_txt_rank": 2,
        "lora_learning_rate": 2e-4,
        "lora_txt_learning_rate": 1e-4,
        "learning_rate": 2e-6,
        "txt_learning_rate": 5e-6,
        "lora_model_name": "old.pt",
        "max_train_steps": 100,
        "stop_text_encoder": 0.5,
    }
    found = read.read(json.dumps(values))
    assert settings_of(found) == {
        "method": "lora",
        "network_type": "locon",
        "rank": 8,
        "text_encoder_rank": 2,
        "learning_rate": 2e-4,
        "text_encoder_lr": 1e-4,
        "max_train_steps": 100,
        "text_encoder_steps": 50,
    }
    assert told(found)["lora_model_name"] == "old.pt"
    plain = settings_of(read.read(json.dumps({**values, "use_lora": False})))
    assert (
        "method" not in plain
        and "rank" not in plain
        and (plain["learning_rate"], plain["text_encoder_lr"]) == (2e-6, 5e-6)
    )


def test_what_changes_a_db_config_is_told():
    values = {"lifetime_revision": 1, "train_unet": False, "train_imagic": True, "noise_scheduler": "DEIS"}
    found = read.read(json.dumps({**values, "input_pertubation": True, "optimizer": "AdamW Dadaptation"}))
    assert set(values) - {"lifetime_revision"} < set(told(found))
    assert settings_of(found)["ip_noise_gamma"] == 0.1 and found.settings["optimizer"] == "prodigy"


# --- a rate goes with its optimizer


@pytest.mark.parametrize("name", ["DAdaptAdam", "DAdaptLion", "DAdaptSGD", "DAdaptation", "ProdigyPlus8bit"])
def test_optimizers_that_find_the_rate_become_prodigy(name):
    found = read.read(json.dumps({
        "LoRA_type": "Standard", "network_dim": 16, "max_train_steps": 9, "optimizer": name, "learning_rate": 0.5,
        "unet_lr": 1.0, "text_encoder_lr": 0.5, "optimizer_args": '"decouple=True" "momentum=0.9" weight_decay=0.2',
    }))  # fmt: skip
    given = settings_of(found)
    assert (given["optimizer"], given["learning_rate"], given["text_encoder_lr"]) == ("prodigy", 1.0, 1.0)
    assert given["optimizer_args"] == {"decouple": True} and given["weight_decay"] == 0.2
    assert told(found)["optimizer_type"] == name and told(found)["text_encoder_lr"] == "0.5"
    assert told(found)["optimizer_args: momentum"] == "0.9"


@pytest.mark.parametrize("name", ["prodigyplus.ProdigyPlusScheduleFree", "PRODIGY_PLUS_SCHEDULE_FREE"])
def test_prodigy_with_averages_comes_with_what_it_has_here(name):
    arguments = "use_schedulefree=True fused_back_pass=True d_coef=2 weight_decay=0.2"
    found = read.read(form(optimizer=name, optimizer_args=arguments, learning_rate=1, learning_rate_te=0.5))
    given = settings_of(found)
    assert (given["optimizer"], given["learning_rate"], given["text_encoder_lr"]) == ("prodigy_schedulefree", 1.0, 1.0)
    assert given["optimizer_args"] == {"d_coef": 2} and given["weight_decay"] == 0.2
    assert {"optimizer_args: use_schedulefree", "optimizer_args: fused_back_pass"} <= set(told(found))


@pytest.mark.parametrize("name", ["pytorch_optimizer.CAME", "came_pytorch.CAME", "CAME_8BIT"])
def test_came_keeps_its_rate(name):
    given = settings_of(read.read(form(optimizer=name, optimizer_args="", learning_rate=3e-6)))
    assert (given["optimizer"], given["learning_rate"]) == ("came", 3e-6)


@pytest.mark.parametrize("name", ["AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree"])
def test_what_is_not_there_takes_its_rate_along(name):
    found = read.read(
        form(optimizer=name, optimizer_args="", learning_rate=1.0, learning_rate_te=0.5, max_train_steps=9)
    )
    given = settings_of(found)
    assert "optimizer" not in given and "learning_rate" not in given and "text_encoder_lr" not in given
    assert told(found)["learning_rate"] == "1.0" and told(found)["learning_rate_te"] == "0.5"
    assert told(found)["optimizer_type"] == name


@pytest.mark.parametrize(
    ("name", "ours"),
    [("PagedLion8bit", "lion"), ("PagedAdamW32bit", "adamw"), ("SGDNesterov", "sgd"), ("torch.optim.AdamW", "adamw")],
)
def test_the_same_steps_keep_their_rate(name, ours):
    given = settings_of(read.read(form(optimizer=name, optimizer_args="", learning_rate=3e-6)))
    assert (given["optimizer"], given["learning_rate"]) == (ours, 3e-6)
    assert given.get("optimizer_args") == ({"momentum": 0.9, "nesterov": True} if ours == "sgd" else None)


@pytest.mark.parametrize("arguments", ["", "relative_step=True", "warmup_init=True relative_step=False"])
def test_an_adafactor_that_finds_its_rate(arguments):
    found = read.read(form(optimizer="Adafactor", optimizer_args=arguments, learning_rate=1e-3, learning_rate_te=1e-3))
    assert settings_of(found)["optimizer"] == "adafactor" and "learning_rate" not in found.settings
    assert told(found)["learning_rate"] == "0.001"


def test_prodigy_has_one_rate():
    found = read.read(form(optimizer="Prodigy", optimizer_args="", learning_rate=1, learning_rate_te=1e-5))
    assert settings_of(found)["text_encoder_lr"] == 1.0 and told(found)["learning_rate_te"] == "1e-05"


def test_one_rate_holds_for_what_has_none_of_its_own():
    text = 'train_data_dir = "x"\nlearning_rate = 3e-6\nmax_train_steps = 9'
    given = settings_of(read.read(text))
    assert given["text_encoder_lr"] == given["learning_rate"] == 3e-6 and given["text_encoder_steps"] == 9


def test_masks_as_kohyas_scripts_have_them(tmp_path):
    """What is black counts nothing there, and small masks less; without masked_loss the folder is a ControlNet's."""
    data = {"datasets": [{"subsets": [{"image_dir": "own", "class_tokens": "x", "conditioning_data_dir": "masks"}]}]}
    given = settings_of(
        read.read(json.dumps({"max_resolution": "512", "LoRA_type": "Standard", "masked_loss": True} | data))
    )
    assert given["masked_loss"] is True and given["mask_dir"] == "masks"
    assert given["unmasked_weight"] == 0 and given["normalize_masked_area_loss"] is False
    found = read.read(json.dumps({"max_resolution": "512", "LoRA_type": "Standard"} | data))
    assert not {"masked_loss", "mask_dir", "unmasked_weight"} & set(settings_of(found))
    assert "conditioning_data_dir" in reasons(found)
    given = settings_of(read.read(json.dumps({"max_resolution": "512", "LoRA_type": "Standard", "alpha_mask": True})))
    assert given["masked_loss"] is given["alpha_as_loss_weight"] is True  # transparency is a mask there, too
    assert given["unmasked_weight"] == 0 and given["normalize_masked_area_loss"] is False
    two = [{"image_dir": "a", "alpha_mask": True}, {"image_dir": "b"}]
    found = read.read(json.dumps({"LoRA_type": "Standard", "datasets": [{"subsets": two}]}))
    assert "alpha_mask" in reasons(found) and settings_of(found)["alpha_as_loss_weight"] is True
    two = [{"image_dir": name, "class_tokens": name, "conditioning_data_dir": f"m{name}"} for name in "ab"]
    given = settings_of(
        read.read(json.dumps({"LoRA_type": "Standard", "masked_loss": True, "datasets": [{"subsets": two}]}))
    )
    assert [concept["mask_dir"] for concept in given["concepts"]] == ["ma", "mb"]


# --- nothing is dropped without a word


def test_what_is_not_taken_over_is_told_with_its_value():
    values = {"num_widgets": 3, "color_aug": True, "v_pred_like_loss": 0.2, "block_lr": "1,2",
              "down_lr_weight": "0,1", "save_last_n_epochs": 2, "optimizer_args": "betas=x"}  # fmt: skip
    found = read.read(form(**values))
    assert {name: told(found)[name] for name in values} == {
        **{name: str(value) for name, value in values.items()},
        "optimizer_args": "betas=x",
    }
    why = reasons(found)
    for name in ("num_widgets", "v_pred_like_loss", "block_lr"):  # their names only begin like others'
        assert why[name] == common.NO_COUNTERPART
    assert "LoRA" in why["down_lr_weight"] and "are kept" in why["save_last_n_epochs"]


def test_secrets_are_not_repeated():
    found = read.read(form(huggingface_token="hf_SECRET", wandb_api_key="SECRET"))
    assert {"huggingface_token", "wandb_api_key"} < set(reasons(found)) and "SECRET" not in json.dumps(found.as_dict())


def test_patterns_match_no_more_than_they_say():
    for name in ("num_x", "sd3", "flux", "logarithm", "resume_now", "my_block", "wandbx", "lora_y", "v_pred_x"):
        assert kohya_names.reason_against(name) == common.NO_COUNTERPART


def test_a_rank_without_alpha():
    """0 is as the rank in sd-scripts."""
    assert lora(network_dim=32, network_alpha=0)["alpha"] == 32.0


def test_what_would_do_nothing_here_is_told_and_left_out():
    found = read.read(form(lr_scheduler="constant_with_warmup", lr_warmup=0, adaptive_noise_scale=-0.1))
    assert "lr_scheduler" not in settings_of(found) and "adaptive_noise_scale" not in found.settings
    assert "has no effect" in reasons(found)["lr_scheduler"] and told(found)["adaptive_noise_scale"] == "-0.1"


def test_captions_are_read_where_the_folders_cannot_be_seen():
    given = settings_of(read.read(form(train_data_dir="C:\\img", caption_extension=".tags")))
    assert given["use_captions"] is True and given["caption_extension"] == ".tags"


@pytest.mark.parametrize(
    "text", [SCRIPT, form(), word_form(), form(LoRA_type="LyCORIS/LoHa", network_dim=8, conv_dim=4)]
)
def test_what_is_taken_over_goes_together(text, tmp_path):
    config, _ = parse(read.read(text).settings)
    (tmp_path / "x.safetensors").write_bytes(b"")
    config = config.replace(base_model=str(tmp_path / "x.safetensors"), name="x")
    completed, _, _, problems, _ = config_checks.check(config)
    pictures = ("instance_data_dir", "instance_prompt", "class_data_dir", "validation_prompts")
    assert [problem for problem in problems if problem.field not in pictures] == []
    assert not [warning for warning in config_warnings.warnings(completed, 12) if warning.is_grave]


def test_our_own_config():
    found = read.read(json.dumps({"max_train_steps": 700, "loss_type": "l2", "seed": "many", "colour": 1}))
    assert settings_of(found) == {"max_train_steps": 700}
    assert found.source == "dreambooth_ext" and set(reasons(found)) == {"seed", "colour"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("[1, 2]", "TOML"),
        ("[]", "no settings"),
        ("{}", "supported trainer"),
        ('{"colour": 1}', "supported trainer"),
        ('{"src": "C:\\models"}', r"with / or with \\"),
        ('{"a": ', "not valid JSON"),
        ("output_name = ", "neither JSON nor TOML"),
        ("hello", "neither JSON nor TOML"),
        ('{"a":' * 50 + "1" + "}" * 50, "deeply"),
        ("[" * 100_000, "TOML"),
        ('{"a":' * 50_000, "JSON"),
        ("x" * (read.LARGEST + 1), "characters"),
    ],
)
def test_what_cannot_be_read_says_so(text, part):
    with pytest.raises(UserError) as caught:
        read.read(text)
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
            found = read.read(text)
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
    monkeypatch.setattr("dreambooth_ext.core.system.toml.READERS", ())
    with pytest.raises(UserError, match="cannot read TOML"):
        read.read(SCRIPT)
