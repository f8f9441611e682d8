"""The page in a real browser, on a simulated API: the whole path, every button and error, keys alone, narrow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from dreambooth_ext.core.messages.message import Message, beside
from tests.waiting import until

from .simulator import REPOSITORY

DEMO = sorted((REPOSITORY / "dreambooth_ext" / "demo" / "pictures").glob("*"))
FILES = "input[type=file][multiple]"
TRAIN = ".db-summary .db-large"
HOSTILE = '<img src=x onerror="window.hurt=1"><b>bold</b>'


def begin(page, simulator, name: str = "zkz") -> str:
    """Uploads the demo's pictures, types a word, trains; returns the run's id."""
    page.set_input_files(FILES, DEMO)
    page.fill(".db-word", name)
    page.wait_for_selector("text=12 pictures")
    page.wait_for_selector(".db-sentence .db-value")
    page.click(TRAIN)
    page.wait_for_selector(".db-monitor .db-badge[data-status]")
    return next(iter(simulator.runs))


def checked(simulator) -> dict:
    """The configuration that was checked last."""
    found = posted(simulator, "check")
    return found[-1]["config"] if found else {}


def tab(page, name: str) -> None:
    page.click(f".db-tab:has-text('{name}')")


def posted(simulator, path: str) -> list:
    return [body for method, route, body in simulator.asked if method == "POST" and route.startswith(path)]


@pytest.fixture
def page(open_page, server):
    return open_page(server)


# --- the whole path


def test_from_pictures_to_a_model(page, simulator, screenshot) -> None:
    simulator.speed = 500
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector("text=12 pictures")
    assert page.locator(".db-picture img").count() == 12
    page.fill(".db-word", "zkz")
    page.wait_for_selector(".db-advice.db-good")
    assert "a photo of zkz person" in page.inner_text(".db-prompt")
    page.wait_for_selector(".db-facts >> text=Memory", timeout=8000)  # the deep check came by itself
    sentence = page.inner_text(".db-sentence")
    assert sentence == "12 pictures, Person: 1,500 steps at a learning rate of 2e-6, the text encoder for 350 steps."
    facts = page.inner_text(".db-summary .db-facts")
    assert "125" in facts and "11 min" in facts and "9.7 GB of 24.0 GB" in facts and "320 GB free" in facts
    assert "9, ≈ 1.6 % of the time" in " ".join(facts.split()) and "Kept back" in facts
    screenshot(page, "train-1280-light")
    page.click(TRAIN)
    page.wait_for_selector(".db-monitor .db-badge[data-status=training]")
    config = posted(simulator, "runs")[0]["config"]
    assert config["instance_prompt"] == "a photo of zkz person" and config["name"] == "zkz_person"
    assert "max_train_steps" not in config and "class_prompt" not in config  # the guide's part is left to the guide
    page.wait_for_selector(".db-preview img")
    page.wait_for_selector(".db-monitor .db-badge[data-status=done]")
    assert "1,500 of 1,500" in page.inner_text(".db-figures")
    page.wait_for_selector(".db-model:has-text('zkz_person.safetensors')")
    page.wait_for_selector(".db-toast:has-text('Training has finished')")
    screenshot(page, "done-1280-light")


def test_a_reload_in_the_middle_shows_the_same(page, simulator, open_page, server) -> None:
    simulator.speed = 150
    begin(page, simulator)
    page.wait_for_selector(".db-badge[data-status=training]")
    page.reload()
    page.wait_for_selector(".db-badge[data-status=training]")
    assert page.locator(".db-panel:visible").get_attribute("id") == "dreambooth_view_monitor"
    tab(page, "Train")
    assert page.input_value(".db-word") == "zkz"
    page.wait_for_selector("text=12 pictures")
    other = open_page(server)  # a second browser
    tab(other, "Monitor")
    other.wait_for_selector(".db-badge[data-status=training]")
    steps = int(re.sub(r"\D", "", other.inner_text(".db-figure dd .db-value")))
    assert steps > 0


def test_a_tab_that_is_clicked_before_the_server_answers_is_shown(open_page, server) -> None:
    page, held = open_page("about:blank"), []
    page.route("**/dreambooth/v1/schema", lambda route: held.append(route))
    page.goto(server)
    tab(page, "Monitor")
    page.wait_for_timeout(200)
    held[0].continue_()
    page.wait_for_selector("#dreambooth_view_monitor > *")
    assert page.locator(".db-panel:visible").get_attribute("id") == "dreambooth_view_monitor"


def test_the_form_survives_a_reload(page) -> None:
    page.fill(".db-word", "ohwx")
    page.click(".db-type >> text=Object")
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    page.fill("[data-setting=train_batch_size] input", "4")
    page.fill("[data-setting=learning_rate] input", "1e-6:1000, 5e-7")
    page.reload()
    page.wait_for_selector(".db-word")
    assert page.input_value(".db-word") == "ohwx"
    assert page.is_checked("input[value=object]")
    page.click(".db-group summary:has-text('Training')")
    assert page.input_value("[data-setting=train_batch_size] input") == "4"
    assert page.input_value("[data-setting=learning_rate] input") == "1e-6:1000, 5e-7"
    page.click("[data-setting=train_batch_size] .db-undo")
    assert page.input_value("[data-setting=train_batch_size] input") == ""


def test_what_the_schedule_does_not_use_is_not_shown(page) -> None:
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    schedule, fields = page.locator("[data-setting=lr_scheduler] select"), ("warmup_steps", "num_cycles", "power")

    def shown() -> list[str]:
        return [name for name in fields if page.is_visible(f"[data-setting=lr_{name}]")]

    assert shown() == []
    schedule.select_option("cosine_with_restarts")
    until(lambda: shown() == ["warmup_steps", "num_cycles"])
    page.fill("[data-setting=lr_num_cycles] input", "3")
    schedule.select_option("polynomial")
    until(lambda: shown() == list(fields))  # what was given stays, and its problem with it
    page.wait_for_selector("[data-setting=lr_num_cycles] .db-problem >> text=has no effect")
    page.click("[data-setting=lr_num_cycles] .db-undo")
    until(lambda: shown() == ["warmup_steps", "power"])
    page.fill(".db-search", "Restarts")
    until(lambda: shown() == ["num_cycles"])


def test_a_blank_name_is_refused_with_words(page) -> None:
    page.fill(".db-word", "zkz")
    name = page.get_by_label("Name of the new model")
    name.fill(" ")
    page.wait_for_selector(".db-problem:visible >> text=is blank")
    name.fill("")
    until(lambda: page.locator(".db-problem:visible >> text=is blank").count() == 0)


# --- the word


@pytest.mark.parametrize(
    ("word", "good", "says"),
    [
        ("sksper", True, "good word"),
        ("john", False, "the model already knows"),
        ("sks", False, "knows it as a rifle"),
        ("SKS", False, "knows it as a rifle"),
        ("my photo", False, "contains a space"),
        ("a", False, "too short"),
        ("словцо", False, "other than Latin"),
        ("", None, "3 to 7 Latin letters"),
    ],
)
def test_advice_as_one_types(page, word: str, good: bool | None, says: str) -> None:
    page.fill(".db-word", word)
    advice = page.locator(".db-advice")
    assert says in advice.inner_text()
    assert ("db-good" in advice.get_attribute("class")) == (good is True)


def test_a_common_word_of_weak_meaning_is_no_error(page) -> None:
    page.fill(".db-word", "sks")
    assert "db-bad" not in page.get_attribute(".db-advice", "class")


def test_several_subjects_by_their_file_names(page, simulator, tmp_path: Path) -> None:
    for name in ("anna (1)", "anna (2)", "ben (1)", "ben (2)"):
        Image.new("RGB", (64, 64), "teal").save(tmp_path / f"{name}.png")
    page.set_input_files(FILES, sorted(tmp_path.glob("*.png")))
    page.wait_for_selector("text=Several subjects, from the file names: anna, ben.")
    assert page.locator(".db-warnings li").count() or page.wait_for_selector(".db-warnings li")
    page.wait_for_selector(".db-summary .db-facts dd")
    page.click(TRAIN)
    until(lambda: simulator.runs)
    assert "instance_prompt" not in posted(simulator, "runs")[0]["config"]


def test_prompt_and_class_prompt_follow_from_word_and_type(page, simulator) -> None:
    page.set_input_files(FILES, [path for path in DEMO if path.suffix == ".png"])
    page.fill(".db-word", "zkz")
    page.click(".db-type >> text=Style")
    page.wait_for_selector("text=a picture in zkz style")
    page.click(".db-prompt + button")
    prompt = page.locator("input[aria-label='Instance prompt']")
    assert prompt.input_value() == "a picture in zkz style"
    prompt.fill("zkz artwork")
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Prior preservation')")
    page.select_option("[data-setting=with_prior_preservation] select", "true")
    until(lambda: page.get_attribute("[data-setting=class_prompt] input", "placeholder") == "a picture in an art style")
    until(lambda: checked(simulator).get("class_prompt") == "a picture in an art style")
    assert checked(simulator)["instance_prompt"] == "zkz artwork"
    page.click("text=Use the default")
    until(lambda: checked(simulator)["instance_prompt"] == "a picture in zkz style")


# --- pictures


def test_uploads_name_each_failure_and_keep_the_good_ones(page, simulator, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.docx").write_bytes(b"text")
    (tmp_path / "telephone.dng").write_bytes(b"picture")
    page.set_input_files(
        FILES, [*DEMO[:4], *(tmp_path / name for name in ("broken.png", "notes.docx", "telephone.dng"))]
    )
    page.wait_for_selector("text=2 pictures")
    page.wait_for_selector(".db-failure:has-text(\"'broken.png' is in none\")")
    assert page.inner_text(".db-failure:has-text('broken.png')").count("broken.png") == 1
    page.wait_for_selector(".db-failure:has-text('notes.docx is neither a picture nor a caption')")
    page.wait_for_selector(".db-failure:has-text('telephone.dng has a format that cannot be used for training')")
    assert page.locator(".db-failure >> text=Try again").count() == 0  # the same file gets the same answer
    page.click(".db-failure:has-text('broken.png') >> text=Dismiss")
    page.click("text=Dismiss all")
    assert page.locator(".db-failure").count() == 0
    page.set_input_files(FILES, DEMO[:2])  # the same again: nothing is doubled
    page.wait_for_timeout(300)
    assert page.locator(".db-picture").count() == 2


def test_captions_are_seen_and_changed(page, simulator) -> None:
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector("text=12 pictures")
    page.click("text=Show captions")
    caption = page.locator(".db-picture textarea").first
    until(lambda: caption.input_value() == "a big zkz figure on a white background")
    caption.fill("zkz at the sea")
    caption.blur()
    (folder,) = (simulator.folder / "pictures").iterdir()
    until(lambda: (folder / "zkz (1).txt").read_text().strip() == "zkz at the sea")
    page.click("text=Hide captions")
    assert not caption.is_visible()


def test_a_set_that_a_run_was_queued_with_is_changed_as_a_copy(page, simulator) -> None:
    begin(page, simulator)
    (first,) = (simulator.folder / "pictures").iterdir()
    kept = sorted(path.name for path in first.iterdir())
    tab(page, "Train")
    page.locator(".db-picture").first.hover()
    page.locator(".db-remove").first.click()
    until(lambda: page.locator(".db-picture").count() == 11)
    assert sorted(path.name for path in first.iterdir()) == kept  # the run's stays
    (own,) = [path for path in (simulator.folder / "pictures").iterdir() if path != first]
    assert len(list(own.glob("*.png"))) == 11


def test_removing_pictures(page, simulator) -> None:
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector("text=12 pictures")
    page.hover(".db-picture >> nth=0")
    page.click(".db-picture >> nth=0 >> button")
    page.wait_for_selector("text=11 pictures")
    page.click("text=Remove all")
    page.wait_for_timeout(100)
    assert page.locator(".db-picture").count() == 11  # asked once
    page.click("text=Remove all pictures?")
    until(lambda: page.locator(".db-picture").count() == 0)


def lots_of(folder: Path, colour: str, size: int) -> Path:
    """A folder with three plain pictures, each with a caption, of the names that cameras give."""
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (size, size), colour).save(folder / f"IMG_000{number}.jpg")
        (folder / f"IMG_000{number}.txt").write_text(f"zkz in {colour}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_cards_belong_to_their_place(page, simulator, tmp_path: Path) -> None:
    """Folders with files of the same names, as every camera makes them: no card is shown or acted on elsewhere."""
    green, red, blue = (
        lots_of(tmp_path / name, name, size) for name, size in (("green", 64), ("red", 96), ("blue", 80))
    )
    page.set_input_files(FILES, sorted(green.iterdir()))
    page.wait_for_selector("text=3 pictures")
    page.click("text=Show captions")
    (uploaded,) = (simulator.folder / "pictures").iterdir()
    before = contents(uploaded)
    mine = page.get_attribute(".db-picture img", "src")
    sent = len(simulator.asked)
    page.click("text=A folder on this machine")
    for folder, size in ((red, 96), (blue, 80)):
        page.fill("input[placeholder*=anna]", str(folder))
        page.wait_for_selector(f".db-note:has-text('{size} × {size}') >> nth=2")
        assert page.locator(".db-picture").count() == 3 and page.locator(".db-remove").count() == 0
        sources = page.eval_on_selector_all(".db-picture img", "all => all.map(one => one.src)")
        assert mine not in sources and all(folder.name in source for source in sources)
        caption = page.locator(".db-picture textarea").first
        assert caption.input_value() == f"zkz in {folder.name}" and not caption.is_editable()
    page.click("text=Upload >> visible=true")
    page.wait_for_selector(".db-note:has-text('64 × 64') >> nth=2")
    assert page.get_attribute(".db-picture img", "src") == mine
    assert contents(uploaded) == before
    assert {method for method, route, _ in simulator.asked[sent:] if route.startswith("pictures")} == set()


def test_a_picture_that_was_replaced_meanwhile_is_neither_deleted_nor_described(
    page, simulator, tmp_path: Path
) -> None:
    """A second browser sent another picture of that name: the card shows the old one."""
    page.set_input_files(FILES, sorted(lots_of(tmp_path / "green", "green", 64).iterdir()))
    page.wait_for_selector("text=3 pictures")
    page.click("text=Show captions")
    (uploaded,) = (simulator.folder / "pictures").iterdir()
    Image.new("RGB", (64, 48), "red").save(uploaded / "IMG_0000.jpg")
    caption = page.locator(".db-picture textarea").first
    caption.fill("a green one")
    caption.blur()
    page.wait_for_selector(".db-note:has-text('IMG_0000.jpg is a different picture now')")
    page.hover(".db-picture >> nth=0")
    page.click(".db-picture >> nth=0 >> .db-remove")
    page.wait_for_selector(".db-problem:has-text('It could not be removed: IMG_0000.jpg is a different picture now')")
    page.wait_for_selector(".db-note:has-text('64 × 48')")  # and now the card shows what is there
    assert (uploaded / "IMG_0000.txt").read_text() == "zkz in green\n"
    page.click(".db-picture >> nth=0 >> .db-remove")
    page.wait_for_selector("text=2 pictures")


def test_settings_of_a_run_show_its_own_pictures(page, simulator, tmp_path: Path) -> None:
    green, red = lots_of(tmp_path / "green", "green", 64), lots_of(tmp_path / "red", "red", 96)
    page.set_input_files(FILES, sorted(green.iterdir()))
    page.wait_for_selector(".db-note:has-text('64 × 64') >> nth=2")
    simulator.create({"name": "old", "method": "dreambooth", "instance_data_dir": str(red)}, 10)
    simulator.waiting.clear()
    tab(page, "Runs")
    page.click(".db-run >> text=Use settings")
    page.wait_for_selector(".db-note:has-text('96 × 96') >> nth=2")
    assert page.locator(".db-picture").count() == 3 and page.locator(".db-remove").count() == 0


def test_a_refused_removal_says_why_and_leaves_the_picture(page, simulator) -> None:
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector("text=12 pictures")
    refused = {"error": "The run r1 needs these pictures.", "remedy": "Wait for it, or stop it first."}
    simulator.faults["DELETE pictures"] = (409, refused)
    page.hover(".db-picture >> nth=0")
    page.click(".db-picture >> nth=0 >> .db-remove")
    page.wait_for_selector(".db-problem:has-text('It could not be removed: The run r1 needs these pictures.')")
    page.wait_for_timeout(600)  # the listing that follows wipes nothing
    assert page.is_visible(".db-problem:has-text('Wait for it, or stop it first.')")
    page.click("text=Remove all")
    page.click("text=Remove all pictures?")
    page.wait_for_timeout(600)
    assert page.locator(".db-picture").count() == 12
    assert page.is_visible(".db-problem:has-text('It could not be removed: The run r1 needs')")
    simulator.faults.clear()
    page.click(".db-picture >> nth=0 >> .db-remove")
    page.wait_for_selector("text=11 pictures")
    assert not page.is_visible(".db-problem:has-text('It could not be removed')")


def test_after_start_over_the_same_pictures_go_up_again(page, simulator, tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"text")
    page.set_input_files(FILES, [*DEMO, tmp_path / "notes.docx"])
    page.wait_for_selector("text=12 pictures")
    page.click("text=Start over")
    page.click("text=Clear the whole form?")
    until(lambda: page.locator(".db-picture").count() == 0)
    assert page.locator(".db-failure").count() == 0  # errors of the old form went with it
    page.set_input_files(FILES, DEMO)
    until(lambda: page.locator(".db-picture").count() == 12)
    assert len(list((simulator.folder / "pictures").iterdir())) == 2


def test_a_folder_of_the_server(page, simulator, tmp_path: Path) -> None:
    page.click("text=A folder on this machine")
    page.fill("input[placeholder*=anna]", str(tmp_path / "nothing"))
    page.wait_for_selector(".db-problem:has-text('cannot be read')")
    page.fill("input[placeholder*=anna]", str(DEMO[0].parent))
    page.wait_for_selector("text=12 pictures")
    page.reload()
    page.wait_for_selector("text=12 pictures")


def test_a_restricted_host_keeps_its_folders(open_page, server, simulator) -> None:
    simulator.host["restricted"] = "the WebUI listens to other machines"
    page = open_page(server)
    assert page.is_disabled("input[value=folder]")
    assert "\x00other" not in page.locator("select option").evaluate_all("all => all.map(one => one.value)")


def test_the_list_of_bases_follows_the_host(page, simulator, tmp_path: Path) -> None:
    """A new file, the WebUI's own refresh button, another checkpoint chosen there; and a button of its own."""
    base = "select[id^=dreambooth_base]"

    def titles() -> list[str]:
        return page.locator(f"{base} option").all_inner_texts()

    until(lambda: len(titles()) == 3)
    assert titles()[0] == "sd15.safetensors [6ce0161689] (the current checkpoint)"
    assert titles()[1] == "dreamlike.safetensors [abc]"  # the current one is not listed twice
    new = {"title": "new.safetensors", "path": str(tmp_path / "new.safetensors")}
    Path(new["path"]).write_bytes(b"base")
    simulator.host["bases"].append(new)
    until(lambda: "new.safetensors" in titles())
    page.select_option(base, label="new.safetensors")
    until(lambda: checked(simulator).get("base_model") == new["path"])
    simulator.host["current"] = new["path"]
    until(lambda: titles()[0] == "new.safetensors (the current checkpoint)")
    assert page.input_value(base) == new["path"]  # what was chosen stays chosen, whatever the WebUI uses
    page.select_option(base, "")
    until(lambda: titles().count("new.safetensors") == 0)
    page.select_option(base, label="Another file, folder, Hugging Face name or link")
    page.wait_for_selector("input[placeholder^=stable-diffusion-v1-5]")
    page.route("**/dreambooth/v1/state*", lambda route: route.abort())  # no poll may do the button's work
    simulator.host["bases"] = simulator.host["bases"][:2]
    page.click("[aria-label='Refresh the list of models']")
    until(lambda: "new.safetensors" not in "".join(titles()[1:]))
    assert page.is_visible("input[placeholder^=stable-diffusion-v1-5]")


def test_a_base_that_the_host_cannot_load_is_not_offered_and_the_reason_stands_below(open_page, server, simulator):
    """Forge Neo's users have Stable Diffusion 2 checkpoints, and would draw nothing with what is trained on them."""
    simulator.host["lacks"] = {"sd2": beside("reason", Message("hosts.no_sd2", host="Forge neo"))}
    simulator.host["bases"][1]["lacks"] = "sd2"
    page = open_page(server)
    base = "select[id^=dreambooth_base]"
    option = page.locator(f"{base} option >> nth=1")
    note = page.locator(f".db-field:has({base}) p:has-text('Forge neo cannot load Stable Diffusion 2 models')")
    note.wait_for()
    assert option.inner_text() == "dreamlike.safetensors [abc] (not supported by this WebUI)" and option.is_disabled()
    assert "db-quiet" in note.get_attribute("class") and 'turn "Put the model into the WebUI" off' in note.inner_text()
    simulator.host["current"] = simulator.host["bases"][1]["path"]  # chosen in the WebUI
    until(lambda: "db-warn-text" in note.get_attribute("class"))
    page.locator("label", has_text="Put the model into the WebUI").locator("input").uncheck()  # for another program
    until(lambda: not note.is_visible() and page.locator(f"{base} option[disabled]").count() == 0)


# --- checks


def test_every_problem_beside_its_field_and_in_a_summary(page, simulator) -> None:
    page.wait_for_selector(".db-missing:has-text('your pictures')")
    assert not page.is_visible(".db-problems")  # nothing is blamed before it was tried
    page.click(TRAIN)
    page.wait_for_selector(".db-problems")
    page.wait_for_function("document.activeElement.className == 'db-problems'")
    page.wait_for_selector(".db-problems:has-text('No pictures yet. Drop some in')")  # of uploads, and not of a folder
    assert "only 0 pictures" not in page.inner_text(".db-summary")
    page.set_input_files(FILES, DEMO)
    page.fill("input[id^=dreambooth_name]", "no good name!")
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    page.fill("[data-setting=train_batch_size] input", "9999")
    page.fill("[data-setting=optimizer_args] textarea", "{broken")
    page.wait_for_selector("[data-setting=optimizer_args] .db-problem:has-text('cannot be read')")
    page.wait_for_selector("[data-setting=train_batch_size] .db-problem:has-text('out of range')")
    page.wait_for_selector(".db-problem:has-text(\"'no good name!'\")")
    assert page.get_attribute("[data-setting=train_batch_size] input", "aria-invalid") == "true"
    page.click(".db-advanced > summary")
    page.click(".db-problems >> text=Batch size")
    until(
        lambda: page.evaluate("document.activeElement.closest('[data-setting]')?.dataset.setting") == "train_batch_size"
    )
    assert not simulator.runs
    page.fill("[data-setting=train_batch_size] input", "2")
    page.click(".db-problems >> text=Optimizer arguments")
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.fill("input[id^=dreambooth_name]", "good")
    until(lambda: not page.is_visible(".db-problems"))


def test_json_that_cannot_be_read_stays_with_its_error(page, simulator) -> None:
    page.set_input_files(FILES, DEMO)
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    field = "[data-setting=optimizer_args]"
    page.fill(f"{field} textarea", "{bad")
    page.fill("[data-setting=train_batch_size] input", "2")
    until(lambda: checked(simulator).get("train_batch_size") == 2)
    assert page.input_value(f"{field} textarea") == "{bad"
    assert page.is_visible(f"{field} .db-problem:has-text('cannot be read')")
    page.click(TRAIN)
    page.wait_for_selector(".db-problems:has-text('cannot be read')")
    assert not simulator.runs
    page.fill(f"{field} textarea", '{"weight_decay": 0.1}')
    until(lambda: checked(simulator).get("optimizer_args") == {"weight_decay": 0.1})
    until(lambda: not page.is_visible(".db-problems"))
    page.fill(f"{field} textarea", "{bad")
    page.click(f"{field} .db-undo")
    assert page.input_value(f"{field} textarea") == "" and not page.is_visible(f"{field} .db-problem")
    page.fill(f"{field} textarea", "{bad")
    page.click("text=Start over")
    page.click("text=Clear the whole form?")
    assert page.input_value(f"{field} textarea") == "" and not page.is_visible(f"{field} .db-problem")


def test_a_deep_check_before_training(page, simulator) -> None:
    simulator.deep_problems = [{"field": "train_batch_size", "message": "needs 31 GB of memory.", "remedy": "Use 1."}]
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector("text=12 pictures")
    page.click(TRAIN)
    page.wait_for_selector(".db-problems:has-text('needs 31 GB of memory. Use 1.')")
    assert not simulator.runs
    simulator.deep_problems = []
    page.click(".db-summary >> text=Check")
    until(lambda: not page.is_visible(".db-problems"))
    page.click(TRAIN)
    until(lambda: simulator.runs)


def test_only_what_the_method_uses(page, simulator) -> None:
    page.click(".db-advanced > summary")
    assert page.is_visible(".db-group summary:has-text('Prior preservation')")
    page.select_option("select[id^=dreambooth_method]", "finetune")
    assert not page.is_visible(".db-group summary:has-text('Prior preservation')")
    assert page.is_disabled(".db-word")
    page.fill(".db-search", "snr")
    assert page.locator(".db-advanced .db-field:visible").count() == 3
    page.fill(".db-search", "nothing like this")
    assert page.is_visible("text=No setting matches.")


def test_shards_instead_of_pictures(page, simulator, screenshot) -> None:
    page.select_option("select[id^=dreambooth_method]", "finetune")
    page.click(".db-advanced > summary")
    page.fill(".db-search", "shard")
    page.fill("[data-setting=train_shards_path_or_url] input", "https://host/{0000..0001}.tar.gz")
    page.click(TRAIN)
    page.wait_for_selector("[data-setting=train_shards_path_or_url] :text('is not a plain tar file')")
    page.fill("[data-setting=train_shards_path_or_url] input", "https://host/{0000..0001}.tar")
    page.fill(".db-search", "steps")
    page.wait_for_selector("[data-setting=max_train_steps] :text('nobody knows how many pictures')")
    page.fill("[data-setting=max_train_steps] input", "500")
    page.wait_for_selector(".db-sentence:has-text('Pictures in shards, fine-tuning: 500 steps')")
    screenshot(page, "shards")
    page.click(TRAIN)
    page.wait_for_selector(".db-monitor .db-badge[data-status]")
    created = posted(simulator, "runs")[-1]["config"]
    assert "instance_data_dir" not in created and created["train_shards_path_or_url"].endswith("{0000..0001}.tar")


def test_textual_inversion_teaches_the_word_itself(page, simulator) -> None:
    page.select_option("select[id^=dreambooth_method]", "textual_inversion")
    page.wait_for_selector(".db-advice:has-text('the word is the new model')")
    page.set_input_files(FILES, DEMO)
    page.fill(".db-word", "zkz")
    page.wait_for_selector(".db-advice.db-good")
    until(lambda: checked(simulator).get("placeholder_token") == "zkz")
    sent = checked(simulator)
    assert sent["name"] == "zkz_ti" and "instance_prompt" not in sent  # "zkz" may be a checkpoint's word
    assert "zkz person, professional portrait, studio lighting" in sent["validation_prompts"]
    page.wait_for_selector(".db-advice:has-text('write zkz_ti: an embedding is called by its file')")
    page.fill("input[id^=dreambooth_name]", "zkz")
    page.wait_for_selector(".db-warnings:has-text(\"'zkz' in a prompt will mean this embedding with every\")")
    assert checked(simulator)["name"] == "zkz"  # what the user typed counts


def test_files_to_go_on_from_are_offered(page, simulator) -> None:
    page.select_option("select[id^=dreambooth_method]", "lora")
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('LoRA')")
    field = page.locator("[data-setting=network_weights]")
    offered = field.locator("datalist option")
    assert field.locator("input").get_attribute("list") == field.locator("datalist").get_attribute("id")
    assert [offered.get_attribute("value")] == [one["path"] for one in simulator.host["files"]["lora"]]


def test_several_subjects_in_rows(page, simulator, tmp_path: Path, screenshot) -> None:
    page.set_input_files(FILES, DEMO)
    page.fill(".db-word", "zkz")
    page.wait_for_selector("text=12 pictures")
    until(lambda: any("instance_data_dir" in c["config"] for c in posted(simulator, "check")))
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Pictures')")
    page.focus("text=Add a subject")
    page.keyboard.press("Enter")
    rows = page.locator(".db-concept")
    assert rows.count() == 2  # what the form has, and the new one, which has the focus
    assert page.evaluate("document.activeElement.dataset.concept") == "instance_data_dir"
    page.keyboard.type(str(tmp_path / "gone"))
    page.keyboard.press("Tab")
    page.keyboard.type("ohwx")
    page.keyboard.press("Tab")  # a word becomes the usual prompt
    first = {"instance_data_dir": checked_folder(simulator), "instance_prompt": "a photo of zkz person"}
    second = {"instance_data_dir": str(tmp_path / "gone"), "instance_prompt": "a photo of ohwx person"}
    until(lambda: checked(simulator).get("concepts") == [first, second])
    assert "instance_data_dir" not in checked(simulator) and "instance_prompt" not in checked(simulator)
    problem = rows.nth(1).locator(".db-problem:visible")
    problem.wait_for()
    assert "there is no folder" in problem.inner_text() and rows.nth(0).locator(".db-problem:visible").count() == 0
    rows.nth(1).locator("[data-concept=repeats]").fill("3")
    rows.nth(1).locator("[data-concept=num_class_images]").fill("many")
    until(lambda: checked(simulator)["concepts"][1].get("repeats") == 3)
    page.wait_for_selector("text='many' is not a whole number above 0. Use 1 or more. >> visible=true")
    screenshot(page, "concepts-1280-light")
    page.click(TRAIN)
    page.wait_for_selector(".db-problems")
    page.click(".db-problems .db-link >> nth=0")
    assert page.evaluate("document.activeElement.closest('.db-concept') !== null")
    page.reload()  # it is kept
    page.wait_for_selector(".db-concept >> nth=1", state="attached")
    assert page.locator("[data-concept=instance_prompt]").nth(1).input_value() == "a photo of ohwx person"
    page.click(".db-group summary:has-text('Pictures')")
    page.focus("[aria-label='Remove subject 2']")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove subject 1"
    until(lambda: checked(simulator).get("concepts") == [first])
    page.keyboard.press("Enter")
    until(lambda: "concepts" not in checked(simulator))
    assert page.evaluate("document.activeElement.textContent") == "Add a subject"
    until(lambda: checked(simulator).get("instance_prompt") == "a photo of zkz person")  # the form's own again


def checked_folder(simulator) -> str:
    return next(
        c["config"]["instance_data_dir"] for c in posted(simulator, "check") if "instance_data_dir" in c["config"]
    )


def test_a_filled_in_value_has_its_reason(page) -> None:
    page.set_input_files(FILES, DEMO)
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    page.wait_for_selector("[data-setting=max_train_steps] .db-reason:has-text('pictures: 11')")
    assert page.get_attribute("[data-setting=max_train_steps] input", "placeholder") == "1500"
    page.click("[data-setting=max_train_steps] .db-help")
    assert "How many steps to train" in page.inner_text("[data-setting=max_train_steps] .db-help-text")
    page.keyboard.press("Escape")
    assert not page.is_visible("[data-setting=max_train_steps] .db-help-text")
    page.fill("[data-setting=max_train_steps] input", "800")
    page.wait_for_selector(".db-sentence:has-text('800 steps')")


# --- presets and files


def test_presets(page, simulator) -> None:
    page.select_option(".db-presets select", label="Careful")
    page.click("text=Apply")
    until(lambda: checked(simulator).get("learning_rate") == 1e-6)
    page.click("text=Save as preset")
    page.fill("input[placeholder='Name of the preset']", "Mine <1>")
    page.click("form >> text=Save")
    page.wait_for_selector(".db-presets [role=status]:has-text('letters, digits')")  # a name that no file can have
    page.fill("input[placeholder='Name of the preset']", "Mine")
    page.click("form >> text=Save")
    page.wait_for_selector("text=Saved as Mine.")
    page.select_option(".db-presets select", label="None (the guide's values)")
    page.click("text=Apply")
    until(lambda: "learning_rate" not in checked(simulator))
    page.select_option(".db-presets select", label="Mine")
    page.click("text=Apply")
    until(lambda: checked(simulator).get("learning_rate") == 1e-6)
    page.click("text=Delete preset")
    page.click("text=Delete this preset?")
    page.wait_for_selector("text=The preset was deleted.")


def test_settings_as_a_file_and_back(page, tmp_path: Path) -> None:
    page.fill(".db-word", "zkz")
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    page.fill("[data-setting=seed] input", "7")
    with page.expect_download() as download:
        page.click("text=Save settings")
    path = tmp_path / "kept.json"
    download.value.save_as(path)
    assert json.loads(path.read_text())["seed"] == 7
    page.click("text=Start over")
    page.click("text=Clear the whole form?")
    assert page.input_value("[data-setting=seed] input") == "" and page.input_value(".db-word") == ""
    page.set_input_files(".db-presets input[type=file]", path)
    until(lambda: page.input_value("[data-setting=seed] input") == "7")


def test_the_word_of_settings_with_a_prompt_of_their_own(page, simulator, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(
        json.dumps({"instance_prompt": "Ohwx, a photo of Ohwx woman", "class_prompt": "a photo of a woman"})
    )
    page.set_input_files(".db-presets input[type=file]", path)
    until(lambda: page.input_value(".db-word") == "Ohwx")
    page.wait_for_selector(".db-advice.db-good")
    page.fill(".db-word", "zkz")  # and the prompt goes with it
    until(lambda: checked(simulator).get("instance_prompt") == "zkz, a photo of zkz woman")
    assert page.input_value("input[aria-label='Instance prompt']") == "zkz, a photo of zkz woman"
    path.write_text(json.dumps({"seed": 7}))  # without a prompt, the word stays
    page.set_input_files(".db-presets input[type=file]", path)
    page.wait_for_selector(".db-presets [role=status]:has-text('1 settings')")
    assert page.input_value(".db-word") == "zkz"
    path.write_text(json.dumps({"instance_prompt": "qqa beside wwb"}))  # which of them is not for us to say
    page.set_input_files(".db-presets input[type=file]", path)
    until(lambda: page.input_value(".db-word") == "")


def test_a_kohya_configuration(page, tmp_path: Path) -> None:
    path = tmp_path / "kohya.toml"
    path.write_text('learning_rate = 1e-6\nmax_train_steps = 1200\nsome_new_thing = "x"\n')
    page.set_input_files(".db-presets input[type=file]", path)
    page.wait_for_selector("text=were not imported")
    assert "some_new_thing = x" in page.inner_text(".db-ignored")
    page.set_input_files(".db-presets input[type=file]", {"name": "x.json", "mimeType": "a/b", "buffer": b"{broken"})
    until(lambda: "{" not in page.inner_text(".db-presets [role=status]") and page.locator(".db-ignored").count() == 0)


def test_a_rate_that_destroys_is_shown_as_an_error_is(page, simulator) -> None:
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    page.fill("[data-setting=learning_rate] input", "1.0")
    page.wait_for_selector(".db-warnings li.db-grave:has-text('times the usual learning rate')")
    page.fill("[data-setting=learning_rate] input", "2e-6")
    until(lambda: page.locator(".db-grave").count() == 0)


# --- the monitor


def test_every_command(page, simulator) -> None:
    simulator.speed = 100
    run = simulator.runs[begin(page, simulator)]
    for text, command in (("Save now", "save"), ("Preview now", "sample")):
        page.click(f".db-action >> text={text}")
        until(lambda command=command: f"told to {command}" in run.log)
    page.wait_for_selector(".db-model:has-text('zkz_person_')")
    page.wait_for_selector(".db-preview")
    page.click("[data-command=stop_and_save]")
    page.wait_for_selector(".db-badge[data-status=stopped]")
    page.click(".db-actions >> text=Resume")
    page.wait_for_selector(".db-badge[data-status=training]")
    page.click("[data-command=stop]")
    page.wait_for_selector(".db-badge[data-status=stopped]")
    commands = [body["command"] for body in posted(simulator, f"runs/{run.id}/commands")]
    assert commands == ["save", "sample", "stop_and_save", "resume", "stop"]


def test_values_that_differ_by_rounding_alone_have_an_axis(page, server) -> None:
    """As the first step's loss and its average do; there is no room for round numbers between them."""
    series = f"import('{server}dreambooth/v1/page/plot/series.js')"
    value = 0.4787750542163849
    soft = page.evaluate(f"{series}.then(it => it.smoothed([{value}], 0.9))")[0]
    assert 0 < value - soft < 1e-15
    assert page.evaluate(f"{series}.then(it => it.ticks({soft!r}, {value!r}, 4))") == [soft]
    assert page.evaluate(f"{series}.then(it => it.ticks(0.1, 0.3, 2))") == [0.1, 0.2, 0.3]


def test_an_axis_has_a_number_near_its_top_and_room_for_peaks(page, server) -> None:
    series = f"import('{server}dreambooth/v1/page/plot/series.js')"
    for low, high in [(0, 0.97), (0, 0.249), (0.013, 0.4999), (0, 0.19), (3, 97)]:
        marks = page.evaluate(f"{series}.then(it => it.axisTicks({low}, {high}))")
        assert high - marks[-1] <= (high - low) / 4 and 2 <= len(marks) <= 12
    usual = [0.1, 0.2] * 100
    span = f"{series}.then(it => it.spanOf"
    assert page.evaluate(f"{span}({[*usual, 0.45]}, {[*usual, 0.02, 0.45]}))") == [0.02, 0.45]
    assert page.evaluate(f"{span}({[*usual, 90]}, {[*usual, 90]}))") == [0.1, 0.2]  # it would flatten all others
    assert page.evaluate(f"{span}([], []))") == []


def test_where_none_trains_the_newest_is_shown(open_page, server, simulator) -> None:
    simulator.speed = 1000
    page = open_page(server)
    tab(page, "Monitor")
    page.wait_for_selector("text=Nothing has been trained yet.")
    tab(page, "Train")
    begin(page, simulator)
    page.wait_for_selector(".db-badge[data-status=done]")
    second = open_page(server)  # of another browser, which remembers nothing
    tab(second, "Monitor")
    second.wait_for_selector(".db-monitor .db-badge[data-status=done]")


def test_advice_follows_the_type_and_small_the_resolution(page) -> None:
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector("text=A good number for this type.")
    page.click(".db-type >> text=Object")
    page.wait_for_selector("text=15 to 25 are better for this type.")
    assert page.locator(".db-note.db-warn").count() == 12
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Pictures')")
    page.fill("[data-setting=resolution] input", "64")
    until(lambda: page.locator(".db-note.db-warn").count() == 0)


def test_plots_zoom_by_drag_wheel_and_keys(page, simulator) -> None:
    simulator.speed, simulator.hold = 2000, 400
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.step == 400)
    plot, reset = page.locator("canvas").first, page.locator(".db-plot >> nth=0 >> text=All")
    page.wait_for_timeout(1200)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 150, box["y"] + 80)
    assert re.search(r"Step \d+: Loss 0\.\d+ \(0\.\d+\)", page.inner_text(".db-plot-readout >> nth=0"))
    assert reset.is_disabled()
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 90, steps=4)
    assert page.is_visible(".db-plot-selection >> nth=0")
    page.mouse.up()
    until(reset.is_enabled)
    plot.dblclick()
    until(reset.is_disabled)
    for key, enabled in (("+", True), ("ArrowRight", True), ("0", False)):
        plot.press(key)
        until(lambda enabled=enabled: reset.is_enabled() == enabled)
    page.mouse.wheel(0, -300)  # the plot has the focus
    until(reset.is_enabled)
    reset.click()
    log = page.locator(".db-plot >> nth=0 >> text=log")
    log.click()
    assert log.get_attribute("aria-pressed") == "true"
    page.locator(".db-range").fill("0")
    page.locator(".db-range").dispatch_event("input")


def test_the_validation_loss_is_drawn_beside_the_training_loss(page, simulator) -> None:
    simulator.speed, simulator.hold = 2000, 20
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.step == 20)
    assert not page.locator(".db-legend-item >> text=Validation loss").count()
    run.config["validation_split"], run.hold = 0.1, 400
    page.wait_for_selector(".db-legend-item >> text=Validation loss")
    until(lambda: run.step == 400)
    page.wait_for_timeout(1200)
    plot = page.locator("canvas").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 80)
    last = 0.1 + 0.1 * 2.718281828 ** (-400 / 300)
    assert f"Validation loss {last:.3f}"[:20] in page.inner_text(
        ".db-plot-readout >> nth=0"
    )  # as it is, never smoothed


def test_a_run_that_begins_says_so_and_one_that_waits_says_for_what(page, simulator, screenshot) -> None:
    """The trainer's start takes a minute on a slow machine; there is nothing to draw meanwhile."""
    simulator.slow_start = True
    first = simulator.runs[begin(page, simulator)]
    page.wait_for_selector(".db-monitor p:has-text('Starting the trainer … ')")
    first.since -= 39
    page.wait_for_selector(".db-monitor p:has-text('Starting the trainer … 4')")
    page.wait_for_selector(".db-monitor .db-badge:has-text('starting')")
    assert page.locator("canvas:visible").count() == 0  # no axes without a curve
    assert not page.is_visible(".db-monitor h3:has-text('Previews')")
    screenshot(page, "starting-1280-light")
    simulator.create({**first.config, "name": "second"}, 100)
    tab(page, "Runs")
    page.wait_for_selector(".db-run:has-text('zkz_person') .db-badge:has-text('starting')")
    page.wait_for_selector(".db-run:has-text('second') .db-badge:has-text('waiting')")
    page.click(".db-queued .db-link:has-text('second')")
    page.wait_for_selector(".db-monitor p:has-text('Waiting for its turn.')")
    simulator.slow_start = False
    page.wait_for_selector(".db-monitor .db-link:has-text('zkz_person')")
    page.click(".db-monitor .db-link:has-text('zkz_person')")
    page.wait_for_selector("canvas:visible")


def test_after_a_reload_the_monitor_shows_the_run_before_its_events_came(page, simulator) -> None:
    simulator.speed, simulator.hold = 2000, 100
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.step == 100)
    page.route("**/runs/*/curves*", lambda route: None)  # a long run's take a while
    page.route("**/runs/*/events*", lambda route: None)
    page.reload()
    page.wait_for_selector(".db-monitor h3:has-text('zkz_person')")
    assert "100 of 1,500" in page.inner_text(".db-figures")
    page.unroute_all(behavior="ignoreErrors")


def test_the_queue_tells_its_runs_apart(page, simulator, screenshot) -> None:
    simulator.speed, simulator.hold = 50, 500
    first = simulator.runs[begin(page, simulator)]
    until(lambda: first.step >= 20)
    for method, steps in (("lora", 3000), ("hypernetwork", 10_000)):
        run = simulator.create({**first.config, "method": method}, steps)
    run.planned["seconds"] = None  # nothing is known of such runs
    last = simulator.create({**first.config, "name": "last"}, 100)
    tab(page, "Runs")
    page.wait_for_selector(".db-queued >> nth=2")
    lora, hypernetwork, third = (page.locator(".db-queued").nth(place) for place in range(3))
    assert "LoRA · 3,000 steps · ≈ 60 s · waiting for " in lora.inner_text().replace("1 min", "60 s")
    assert re.search(r"starts in ≈ (\d\d s|1 min)", lora.inner_text())
    assert "Hypernetwork · 10,000 steps · waiting for " in hypernetwork.inner_text()
    assert "starts in ≈" in hypernetwork.inner_text() and "starts in" not in third.inner_text()
    screenshot(page, "queue-1280-light")
    assert last.id in simulator.waiting


def test_where_another_run_trains_the_queue_does_not_wait_for_the_check(page, simulator) -> None:
    simulator.hold = 20
    begin(page, simulator)
    until(lambda: simulator.active() and simulator.active().step == 20)
    tab(page, "Train")

    def stall(route) -> None:
        if '"deep":true' not in (route.request.post_data or ""):
            route.continue_()

    page.route("**/check", stall)
    page.fill(".db-word", "qqw")
    page.click(TRAIN)
    page.wait_for_selector(f"{TRAIN}:has-text('Checking … 3 s')")
    until(lambda: len(simulator.runs) == 2, 12)
    page.wait_for_selector(".db-toast:has-text('base and pictures will be checked when this run')")
    page.unroute_all(behavior="ignoreErrors")


def test_previews_enlarge(page, simulator) -> None:
    simulator.speed, simulator.hold = 2000, 520
    begin(page, simulator)
    until(lambda: page.locator(".db-preview").count() == 12)
    assert page.locator(".db-previews tbody tr").count() == 4
    page.click(".db-preview >> nth=0")
    caption = page.locator(".db-viewer-caption")
    assert "Base" in caption.inner_text()  # its own pictures, before the first step
    page.keyboard.press("ArrowRight")
    assert "Step 250" in caption.inner_text()
    page.keyboard.press("ArrowRight")
    assert "Step 500" in caption.inner_text()
    page.keyboard.press("ArrowDown")
    assert "sunglasses" in caption.inner_text()
    page.keyboard.press("Escape")
    assert not caption.is_visible()


def test_the_log_of_a_run_that_has_ended(page, simulator) -> None:
    simulator.speed = 2000
    run = simulator.runs[begin(page, simulator)]
    page.wait_for_selector(".db-monitor .db-badge[data-status=done]")
    page.click(".db-monitor summary:has-text('Log')")
    page.wait_for_selector(".db-log:has-text('encoding 12 pictures')")
    run.log = ""  # of an older version, which wrote nothing where all went well
    page.reload()
    page.wait_for_selector(".db-monitor .db-badge[data-status=done]")
    page.click(".db-monitor summary:has-text('Log')")
    page.wait_for_selector(".db-log:has-text('This run has written no log.')")


def test_previews_that_are_being_drawn_are_counted(page, simulator) -> None:
    simulator.hold = 100
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.step == 100)
    run.say("status", status="training", stage="drawing previews", done=2, of=5)
    page.wait_for_selector(".db-monitor p:has-text('drawing previews: 2 of 5')")
    share = page.eval_on_selector(".db-thick", "bar => bar.value")
    assert share == pytest.approx(100 / run.total)  # the bar stays the training's
    run.hold = 200
    page.wait_for_selector(".db-monitor p:has-text('drawing previews')", state="detached")


def test_messages_trouble_log_and_failure(page, simulator) -> None:
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.status == "training")
    run.say("warning", what="a.jpg is broken.", remedy="Replace it.", field="")
    page.wait_for_selector(".db-message.db-warning:has-text('a.jpg is broken. Replace it.')")
    page.click(".db-monitor summary:has-text('Log')")
    page.wait_for_selector(".db-log:has-text('encoding 12 pictures')")
    run.log += "one more line\n"
    page.wait_for_selector(".db-log:has-text('one more line')")
    simulator.trouble = {"what": "It has not answered for 20 seconds.", "remedy": "Wait, or end it."}
    page.click("button:text-is('Force stop')")
    simulator.trouble = None
    page.wait_for_selector(".db-badge[data-status=failed]")
    page.wait_for_selector(
        ".db-banner-bad:has-text('You ended the training process without saving. Resume the run: it continues from')"
    )
    page.wait_for_selector(".db-toast-bad:has-text('Training failed')")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_the_report_of_a_failed_run_is_copied_and_shown(
    open_page, server, simulator, screenshot, width: int, theme: str
) -> None:
    page = open_page(f"{server}?__theme={theme}", viewport={"width": width, "height": 800})
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.status == "training")
    run.problem = {"field": "", "message": "unexpected KeyError: 'x'", "remedy": "Please report this: 'Copy report'."}
    run.set("failed")
    page.wait_for_selector(".db-badge[data-status=failed]")
    screenshot(page, f"failed-{width}-{theme}")
    page.click(".db-monitor .db-button:has-text('Copy report')")
    page.wait_for_selector(".db-ask >> text=Copied.")
    shown = page.input_value(".db-report")
    assert "run: failed" in shown and "encoding 12 pictures" in shown
    assert page.evaluate("navigator.clipboard.readText()") == shown
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('.db-report').scrollTop") == 0
    outer, inner = (page.locator(name).bounding_box() for name in (".db-ask", ".db-report"))
    assert 0 <= outer["x"] < inner["x"] and inner["x"] + inner["width"] < outer["x"] + outer["width"] <= width
    assert page.evaluate(CONTRAST) == []
    screenshot(page, f"report-{width}-{theme}")
    page.keyboard.press("Escape")
    until(lambda: page.locator(".db-ask").count() == 0)


def test_the_report_where_pages_cannot_copy(page, simulator) -> None:
    """By HTTP from another machine there is no clipboard; an old browser has not the older way, either."""
    run = simulator.create({"name": "zkz", "method": "dreambooth"}, 100)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("window.copied = []; document.addEventListener('copy', () => copied.push(String(getSelection())))")
    tab(page, "Runs")
    card = page.locator(f"[data-run='{run.id}']")
    card.locator("text=Copy report").click()
    page.wait_for_selector(".db-ask >> text=Copied.")
    assert page.evaluate("copied.length") == 1
    page.evaluate("document.execCommand = () => false")
    page.click(".db-ask >> text=Copy again")
    page.wait_for_selector(".db-ask >> text=select the text")
    assert page.evaluate("document.activeElement.selectionEnd") == len(page.input_value(".db-report"))
    page.click(".db-ask >> text=Close")
    simulator.runs.pop(run.id)
    card.locator("text=Copy report").click()
    page.wait_for_selector(".db-toast-bad")


def test_two_runs_side_by_side(page, simulator) -> None:
    simulator.devices, simulator.speed, simulator.hold = 2, 2000, 100
    first = simulator.runs[begin(page, simulator)]
    page.wait_for_selector(".db-badge[data-status=training]")
    second = simulator.create({**first.config, "name": "another"}, first.total)
    page.click(".db-monitor .db-link:has-text('another')")  # begun last, to be looked at instead
    page.wait_for_selector(".db-monitor h3:has-text('another')")
    page.click(f".db-monitor .db-link:has-text('{first.config['name']}')")
    page.wait_for_selector(f".db-monitor h3:has-text('{first.config['name']}')")
    first.hold = None
    page.wait_for_selector(f".db-toast:has-text('Training has finished:'):has-text('{first.config['name']}')")
    assert second.status == "training"
    second.hold = None
    page.wait_for_selector(".db-toast:has-text('Training has finished:'):has-text('another')")


def test_steps_that_are_done_again_replace_the_old_ones(page, simulator) -> None:
    simulator.hold = 20
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.step == 20)
    run.say("status", status="training", step=10, total=run.total)
    for step in (11, 12):
        run.say("step", step=step, total=run.total, loss=0.5, lr={"unet": 1e-6}, it_per_s=1, eta_s=10, epoch=1)
    until(lambda: page.inner_text(".db-figures").count("0.5"))
    page.focus("canvas")
    page.keyboard.press("Shift+ArrowRight")
    until(lambda: "Step 12" in page.inner_text(".db-plot-readout >> nth=0"))


def test_rates_have_names(page, simulator) -> None:
    """LoRA+ has two of a part."""
    simulator.hold = 5
    run = simulator.runs[begin(page, simulator)]
    until(lambda: run.step == 5)
    rates = {"unet": 1e-4, "unet_up": 1.6e-3, "embedding": 1e-3}
    run.say("step", step=6, total=run.total, loss=0.5, lr=rates, it_per_s=1, eta_s=10, epoch=1)
    page.wait_for_selector(".db-plot-legend:has-text('UNet (LoRA+)')")
    assert "embedding" in page.inner_text(".db-plot-legend:has-text('LoRA+')")


# --- runs and the queue


def test_runs_and_queue(page, simulator) -> None:
    simulator.speed = 200
    first = simulator.runs[begin(page, simulator)]
    for name in ("anna", "ben"):
        simulator.create({**first.config, "name": name}, 100)
    tab(page, "Runs")
    page.wait_for_selector(".db-queued >> nth=1")
    page.click(".db-queued:has-text('ben') >> [aria-label^=Earlier]")
    page.wait_for_selector(".db-queued >> nth=0 >> text=ben")
    page.click(".db-queued:has-text('anna') >> text=Cancel")
    until(lambda: page.locator(".db-queued").count() == 1)
    card = page.locator(f"[data-run='{first.id}']")
    first.hold = first.step
    until(lambda: f"step {first.step:,} of" in card.inner_text())
    card.locator("button:text-is('Use settings')").evaluate("made => made.dataset.mark = 'the same'")
    first.states = 6_000_000_000
    until(lambda: "training states" in card.inner_text())
    assert card.locator("[data-mark]").count() == 1  # a button that is being pressed stays
    card.locator("text=Use settings").click()
    page.wait_for_selector(".db-toast:has-text('zkz_person_2')")
    assert page.input_value("input[id^=dreambooth_name]") == "zkz_person_2"  # the older model stays
    assert page.input_value("input[aria-label='Instance prompt']") == "a photo of zkz person"
    assert page.input_value(".db-word") == "zkz"
    simulator.create({**first.config, "name": "zkz_person_2"}, 100)
    simulator.waiting.pop()
    tab(page, "Runs")
    page.locator(".db-run:has-text('zkz_person_2') >> text=Use settings").click()
    page.wait_for_selector(".db-toast:has-text('zkz_person_3')")
    tab(page, "Runs")
    first.hold = first.step
    first.commands.append("stop_and_save")
    card.locator("text=Resume").wait_for()
    card.locator(".db-button:text-is('Models')").click()
    model = card.locator(f".db-model:has-text('zkz_person_{first.step}')")
    model.locator("text=In the WebUI").first.wait_for()  # what was stopped and saved was wished for
    card.locator("text=Open folder").click()
    until(lambda: posted(simulator, f"runs/{first.id}/open") == [{}])
    card.locator("text=Train longer").click()
    card.locator("input").fill("0")
    card.locator("button:text-is('Continue')").click()
    page.wait_for_selector(".db-toast:has-text('above 0')")
    card.locator("input").fill("300")
    card.locator("button:text-is('Continue')").click()
    until(
        lambda: (
            posted(simulator, f"runs/{first.id}/commands")[-1:]
            == [{"command": "continue", "max_train_steps": first.step + 300}]
        )
    )


def test_models_go_into_the_webui_and_out_of_it(page, simulator, screenshot) -> None:
    """Only the last one is there by itself; in the Monitor and under Runs each has what can be done with it."""
    simulator.speed, simulator.hold = 2000, 1200
    run = simulator.runs[begin(page, simulator)]
    page.wait_for_selector(".db-model >> nth=1")
    assert page.locator(".db-model >> text=Only in the run's folder").count() == 2
    run.hold = None
    page.wait_for_selector(".db-model:has-text('zkz_person.safetensors') >> text=In the WebUI, selected")
    assert set(simulator.placed) == {(run.id, "zkz_person.safetensors")}
    last, early = (
        page.locator(f".db-model[data-file='{name}.safetensors']") for name in ("zkz_person", "zkz_person_500")
    )
    assert last.locator("button").all_inner_texts() == ["Remove from the WebUI"]
    assert early.locator("button").all_inner_texts() == ["Put into the WebUI", "Put in and select"]
    early.locator("text=Put into the WebUI").click()
    early.locator("text=In the WebUI").first.wait_for()
    until(lambda: early.locator("button").all_inner_texts() == ["Select", "Remove from the WebUI"])
    screenshot(page, "models-1280-light")
    last.locator("text=Remove from the WebUI").click()
    last.locator("text=Remove from the WebUI?").click()
    page.wait_for_selector(".db-toast-bad:has-text('uses the checkpoint')")  # a refusal leaves it there
    early.locator("text=Select").click()
    until(lambda: early.locator("button").all_inner_texts() == ["Remove from the WebUI"])
    tab(page, "Runs")
    page.locator(".db-run .db-button:text-is('Models')").click()
    row = page.locator(".db-run .db-model[data-file='zkz_person.safetensors']")
    until(lambda: row.locator("button").all_inner_texts() == ["Select", "Remove from the WebUI"])
    row.locator("text=Remove from the WebUI").click()
    row.locator("text=Remove from the WebUI?").click()
    row.locator("text=Only in the run's folder").wait_for()
    assert (run.id, "zkz_person.safetensors") not in simulator.placed
    assert [body["artifact"] for body in posted(simulator, f"runs/{run.id}/unpublish")] == [
        "zkz_person.safetensors"
    ] * 2


@pytest.mark.parametrize("lost", [False, True])
def test_resume_asks_where_pictures_have_changed(page, simulator, screenshot, lost: bool) -> None:
    run = simulator.create({"name": "old", "method": "dreambooth"}, 100)
    simulator.waiting.clear()
    run.set("stopped")
    run.changes = {"added": ["a.png", "b.png"], "recaptioned": ["c.png"]} | ({"gone": ["d.png"]} if lost else {})
    tab(page, "Runs")
    resume = page.locator(f"[data-run='{run.id}'] >> button:text-is('Resume')")
    resume.click()
    asked = page.locator("dialog.db-ask")
    asked.wait_for()
    screenshot(page, f"changed pictures {lost}")
    said = asked.inner_text()
    assert "queued with 12 pictures" in said and "2 added to the folder: a.png, b.png" in said
    assert ("1 missing: d.png" in said) == lost
    assert asked.locator("text=Train as queued").count() == (0 if lost else 1)
    page.evaluate("addEventListener('keydown', () => (window.heard = true))")
    page.keyboard.press("Escape")
    asked.wait_for(state="detached")
    assert not page.evaluate("window.heard")  # the WebUI has keys of its own
    assert posted(simulator, f"runs/{run.id}/commands") == []
    resume.click()
    asked.locator("button", has_text="Use what is there now" if lost else "Train as queued").click()
    wanted = {"command": "resume", **({"new_pictures": True} if lost else {})}
    until(lambda: posted(simulator, f"runs/{run.id}/commands") == [wanted])


def test_a_run_of_many_steps_is_shown_at_once_and_closely_where_one_looks(page, simulator) -> None:
    run = simulator.create({"name": "long", "method": "finetune"}, 20_000)
    simulator.waiting.clear()
    for step in range(1, 20_001):
        run.say("step", step=step, total=20_000, epoch=1, loss=0.2 if step % 1000 else 0.9, lr={"unet": 1e-6})
    run.step = 20_000
    run.set("done")
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    tab(page, "Runs")
    page.locator(f"[data-run='{run.id}'] >> .db-run-name").click()
    page.wait_for_selector("text=20,000")
    assert not any(f"{run.id}/events?after=0" in url for url in urls)
    page.wait_for_selector("canvas:visible")  # after the run's own figures, which come first
    canvas = page.locator("canvas").first
    canvas.focus()
    with page.expect_response(lambda answer: f"{run.id}/curves?from=" in answer.url):
        for _ in range(7):
            page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowLeft")
    until(lambda: "Step" in page.inner_text(".db-plot-readout >> nth=0"))
    before = page.inner_text(".db-plot-readout >> nth=0")
    page.keyboard.press("Shift+ArrowLeft")
    until(lambda: page.inner_text(".db-plot-readout >> nth=0") != before)  # every step has its own value there


def test_deleting_asks_once(page, simulator) -> None:
    run = simulator.create({"name": "old", "method": "dreambooth"}, 10)
    simulator.waiting.clear()
    run.step = 10
    run.set("done")
    tab(page, "Runs")
    delete = page.locator(f"[data-run='{run.id}'] >> button", has_text="elete")
    delete.click()
    assert delete.inner_text() == "Delete this run?" and simulator.runs
    delete.click()
    until(lambda: not simulator.runs)
    page.wait_for_selector("text=No runs yet.")


# --- errors


def test_every_error_is_shown_with_its_remedy(page, simulator) -> None:
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector(".db-facts >> text=Memory")  # the deep check came by itself
    toast = page.locator(".db-toast-bad")
    for status in (401, 403, 404, 413, 415, 422, 500, 503):
        told = {"error": "no room.", "remedy": "Make room."} if status == 422 else {}
        simulator.faults["POST runs"] = (status, told)
        page.click(TRAIN)
        toast.wait_for()
        assert len(toast.inner_text()) > 15, status
        toast.locator("button").click()
        until(lambda: page.is_enabled(TRAIN))


def test_a_refused_configuration_from_the_server(page, simulator) -> None:
    page.set_input_files(FILES, DEMO)
    page.wait_for_selector(".db-sentence .db-value")
    refused = {"problems": [{"field": "name", "message": "is somebody else's model.", "remedy": "Choose another."}]}
    simulator.faults["POST runs"] = (422, refused)
    page.click(TRAIN)
    page.wait_for_selector('.db-problems:has-text("is somebody else\'s model.")')


def test_a_lost_connection_is_shown_and_recovers(page, simulator) -> None:
    page.wait_for_selector(".db-word")
    page.route("**/dreambooth/v1/state*", lambda route: route.abort())
    page.wait_for_selector(".db-banner-bad:has-text('The server does not answer')")
    assert page.inner_text(".db-connection") == "No connection"
    page.unroute("**/dreambooth/v1/state*")
    page.click(".db-banner-bad >> text=Try again")
    until(lambda: not page.is_visible(".db-banner-bad"))


def test_a_server_that_comes_late(open_page, server, simulator) -> None:
    simulator.faults["GET schema"] = (503, {"error": "Starting.", "remedy": "Wait."})
    page = open_page(server)
    page.wait_for_selector(".db-banner-bad:has-text('Starting. Wait.')")
    simulator.faults.clear()
    page.wait_for_selector(".db-word")


def test_the_environment_says_what_is_wrong_and_is_repaired(page, simulator, screenshot) -> None:
    simulator.environment |= {"state": "broken", "reason": "Its interpreter /venv/bin/python is gone."}
    page.wait_for_selector(".db-banner:has-text('Its interpreter /venv/bin/python is gone.')")
    page.click(".db-banner >> text=Repair")
    page.wait_for_selector(".db-banner:has-text('torch 2.1.2 (1 of 40)')")
    assert page.eval_on_selector(".db-banner progress", "bar => bar.value") == pytest.approx(0.4)
    problem = {"field": "environment", "message": "no network.", "remedy": "Name a wheel folder."}
    simulator.environment |= {"building": None, "problem": problem}
    page.wait_for_selector(".db-banner:has-text('no network. Name a wheel folder.')")
    screenshot(page, "environment-1280-light")
    simulator.environment |= {"state": "ready", "reason": "", "problem": None}
    until(lambda: not page.is_visible(".db-banner"))
    page.click("text=About this machine")
    page.wait_for_selector(".db-machine:has-text('NVIDIA GeForce RTX 4090')")


def test_markup_stays_text(page, simulator, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "<img src=x onerror=hurt=1>.png")
    page.set_input_files(FILES, next(tmp_path.glob("*.png")))
    page.fill(".db-word", HOSTILE)
    page.wait_for_selector(".db-picture-name")
    simulator.environment |= {"state": "broken", "reason": HOSTILE}
    simulator.host["name"] = HOSTILE
    run = simulator.create({"name": HOSTILE, "method": HOSTILE, "validation_prompts": [HOSTILE]}, 100)
    run.log = HOSTILE
    run.say("warning", what=HOSTILE, remedy=HOSTILE)
    run.commands.append("sample")
    tab(page, "Monitor")
    page.wait_for_selector(".db-preview")
    page.click(".db-monitor summary:has-text('Log')")
    page.wait_for_selector(f".db-log:has-text('{HOSTILE[:8]}')")
    run.problem = {"field": "", "message": HOSTILE, "remedy": HOSTILE}
    run.set("failed")
    page.wait_for_selector(".db-badge[data-status=failed]")
    tab(page, "Runs")
    page.wait_for_selector(".db-run")
    simulator.faults["DELETE runs"] = (409, {"error": HOSTILE, "remedy": HOSTILE})
    page.click(".db-run >> text=Delete")
    page.click(".db-run >> text=Delete this run?")
    page.wait_for_selector(".db-toast-bad")
    assert page.evaluate("window.hurt") is None
    assert page.locator("#dreambooth_ext b:text-is('bold')").count() == 0


# --- looks and access


def test_by_keyboard_alone(page, simulator) -> None:
    def press_until(selector: str, key: str = "Tab", most: int = 60) -> None:
        for _ in range(most):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press(key)
        raise AssertionError(f"{selector} cannot be reached by {key}")

    page.set_input_files(FILES, DEMO)  # the system's file window is beyond the page
    page.wait_for_selector("text=12 pictures")
    page.evaluate("document.activeElement.blur()")
    press_until(FILES)
    press_until(".db-word")
    page.keyboard.type("zkz")
    press_until("input[type=radio][value=person]")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("input[value=style]")
    press_until(".db-summary .db-large")
    page.wait_for_selector(".db-sentence .db-value")
    page.keyboard.press("Enter")
    page.wait_for_selector(".db-badge[data-status=training]")
    page.evaluate("document.activeElement.blur()")
    press_until(".db-tab[aria-selected=true]")
    press_until("[data-command=stop]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".db-badge[data-status=stopped]")
    press_until(".db-tab[aria-selected=true]", "Shift+Tab")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".db-run")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_controls_have_names(page, simulator) -> None:
    page.click(".db-advanced > summary")
    begin(page, simulator)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('#dreambooth_ext *')]
        .filter(one => one.matches('input, select, textarea, button, canvas, progress'))
        .filter(one => !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim())
        .map(one => one.outerHTML.slice(0, 100))"""
    )
    assert nameless == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_every_view_fits(open_page, server, simulator, screenshot, width: int, theme: str) -> None:
    """No view is wider than the window, and every text stands out from what is behind it."""
    simulator.speed, simulator.hold = 2000, 620
    page = open_page(f"{server}?__theme={theme}", viewport={"width": width, "height": 800})

    def look(name: str) -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(CONTRAST) == [], name
        screenshot(page, f"{name}-{width}-{theme}")

    page.set_input_files(FILES, DEMO)
    page.fill(".db-word", "zkz")
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    page.click("[data-setting=max_train_steps] .db-help")
    page.wait_for_selector(".db-facts >> text=Memory")
    look("train")
    page.click(".db-group summary:has-text('Pictures')")
    page.click("text=Add a subject")
    page.fill("[data-concept=instance_data_dir] >> nth=1", "/a/folder/that/is/not/there/and_has_a_very_long_name")
    page.wait_for_selector(".db-concept .db-problem:visible")
    look("concepts")
    for _ in range(2):
        page.click(".db-concept >> text=Remove >> nth=0")
    page.fill("input[id^=dreambooth_name]", "no good name!")
    page.click(TRAIN)
    page.wait_for_selector(".db-problems")
    look("problems")
    page.fill("input[id^=dreambooth_name]", "")
    until(lambda: not page.is_visible(".db-problems"))
    page.click(TRAIN)
    page.wait_for_selector(".db-badge[data-status]")
    until(lambda: simulator.active() and simulator.active().step == 620)
    run = simulator.active()
    run.say("warning", what="a_very_long_file_name_without_any_space_that_could_be_broken_somewhere.jpg is broken.")
    page.wait_for_selector(".db-message")
    look("monitor")
    simulator.create({**run.config, "name": "the_next_one"}, 100)
    tab(page, "Runs")
    page.wait_for_selector(".db-queued")
    page.wait_for_selector(".db-run img")
    look("runs")


# Texts whose contrast with their background is below 4.5 (WCAG AA), disabled controls left out
CONTRAST = """() => {
    const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const scaled = (text) => text.startsWith('color(') ? parse(text).map((v, i) => i < 3 ? v * 255 : v) : parse(text);
    const over = (top, bottom) => top.slice(0, 3).map((v, i) => v * (top[3] ?? 1) + bottom[i] * (1 - (top[3] ?? 1)));
    const behind = (node) => {
        const layers = [];
        for (let one = node; one; one = one.parentElement) layers.push(scaled(getComputedStyle(one).backgroundColor));
        return layers.reverse().reduce((below, layer) => layer.length ? over(layer, below) : below, [255, 255, 255]);
    };
    const light = (colour) => colour.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const found = [];
    for (const node of document.querySelectorAll('#dreambooth_ext *')) {
        const text = [...node.childNodes].some(one => one.nodeType === 3 && one.textContent.trim());
        if (!text || !node.offsetParent || node.closest(':disabled, .db-old, .db-hidden')) continue;
        const back = behind(node), front = over(scaled(getComputedStyle(node).color), back);
        const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) found.push(`${node.className} ${node.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
    }
    return [...new Set(found)];
}"""


# --- inside a WebUI


def test_the_webui_lists_are_renewed_and_the_model_is_selected(open_page, server, simulator) -> None:
    simulator.speed = 400
    page = open_page(f"{server}webui")
    page.wait_for_selector(".db-word")
    assert page.inner_text(".db-version").startswith("version 1.2.3")
    begin(page, simulator)
    page.wait_for_selector(".db-live")
    lists = [
        "refresh_sd_model_checkpoint",
        "txt2img_lora_extra_refresh_internal",
        "img2img_lora_extra_refresh_internal",
    ]
    until(lambda: page.evaluate("pressed").count(lists[0]) >= 1)  # an intermediate model is listed at once ...
    assert not any(one.startswith("select") for one in page.evaluate("pressed"))  # ... and nothing loads meanwhile
    next_one = simulator.create({"name": "next", "method": "dreambooth"}, 100_000)
    page.wait_for_selector(".db-badge[data-status=done]")
    until(lambda: "select zkz_person.safetensors [1234567890]" in page.evaluate("pressed"))
    assert simulator.active() == next_one  # the server has it selected already: nothing is loaded by choosing it here
    assert set(lists) <= set(page.evaluate("pressed"))

    run = next(iter(simulator.runs.values()))
    simulator.revision, simulator.published = 0, []  # the server is restarted; the page stays open
    page.wait_for_timeout(2500)
    simulator.announce(run, {"name": "again", "file": "again.safetensors", "step": 9}, selected=True)
    until(lambda: "select again.safetensors [1234567890]" in page.evaluate("pressed"))


def test_the_cards_are_refreshed_when_no_model_is_being_loaded(open_page, server, simulator) -> None:
    """AUTOMATIC1111 fails to refresh them while it loads the model that was published, and then goes on without it."""
    run = simulator.create({"name": "zkz", "method": "dreambooth"}, 100_000)
    page = open_page(f"{server}webui")
    page.wait_for_selector(".db-word")
    page.wait_for_timeout(1500)

    def pressed() -> tuple[int, int]:
        everything = page.evaluate("pressed")
        return everything.count("refresh_sd_model_checkpoint"), everything.count("txt2img_lora_extra_refresh_internal")

    simulator.models_loaded = None
    simulator.announce(run, {"name": "zkz", "file": "zkz.safetensors", "step": 9}, selected=True)
    until(lambda: pressed() == (1, 0))
    page.wait_for_timeout(1500)
    assert pressed() == (1, 0)
    simulator.models_loaded = 2
    until(lambda: pressed() == (1, 1))

    simulator.announce(run, {"name": "b", "file": "b.safetensors", "step": 10}, selected=True)
    until(lambda: pressed() == (2, 2))
    simulator.models_loaded = 3  # between two looks at the state: the refresh may have met it
    until(lambda: pressed() == (2, 3))
    simulator.models_loaded = 4
    page.wait_for_timeout(1500)
    assert pressed() == (2, 3)


def test_the_tabs_stand_in_one_line(open_page, server) -> None:
    page = open_page(f"{server}webui")
    page.wait_for_selector(".db-word")
    tabs = page.eval_on_selector_all(
        ".db-tab", "all => all.map(tab => tab.getBoundingClientRect()).map(box => [box.top, box.bottom])"
    )
    assert len(tabs) >= 4 and all(tab == tabs[0] for tab in tabs)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_train_button_is_seen(open_page, server, theme: str) -> None:
    """Whatever the WebUI's own primary colour is: gradio's is a faint orange in the light theme."""
    page = open_page(f"{server}webui?__theme={theme}")
    page.add_style_tag(
        content=":root { --button-primary-background-fill: #ffedd5; --button-primary-text-color: #ea580c }"
    )
    page.wait_for_selector(".db-word")
    for _ in range(2):
        assert page.evaluate(CONTRAST) == []
        behind = page.eval_on_selector(
            TRAIN,
            """button => {
            const of = node => getComputedStyle(node).backgroundColor.match(/\\d+/g).slice(0, 3).map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const [a, b] = [of(button), of(button.closest('.db-card'))].sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05);
        }""",
        )
        assert behind > 3  # of the button and what it lies on
        page.hover(TRAIN)


OF_THE_WEBUI = ("checkpoint", "internal", "ext", "prompt")


def test_the_webui_page_is_not_touched(open_page, server) -> None:
    page = open_page(f"{server}webui?__theme=dark")
    page.wait_for_selector(".db-word")
    inside = page.evaluate("getComputedStyle(document.querySelector('.db-button')).marginBottom")
    assert inside == "0px"  # gradio's rules for texts do not reach in
    assert page.evaluate("getComputedStyle(document.querySelector('.db-word')).color") == "rgb(243, 244, 246)"
    assert page.evaluate("document.body.className") == "dark"
    looks = page.eval_on_selector_all("select, [type=radio]", "all => all.map(one => getComputedStyle(one).appearance)")
    assert set(looks) == {"auto"}  # gradio 4 takes them away
    names = page.evaluate(
        "[...document.querySelectorAll('[id]')].map(e => e.id).filter(id => !id.startsWith('dreambooth'))"
    )
    assert [name for name in names if not name.endswith(OF_THE_WEBUI)] == []


def test_a_page_that_is_drawn_anew_gets_the_tab_again(open_page, server) -> None:
    page = open_page(f"{server}webui")
    page.wait_for_selector(".db-word")
    page.evaluate("""() => {
        const place = document.getElementById('dreambooth_ext'), fresh = document.createElement('div');
        fresh.id = 'dreambooth_ext';
        place.replaceWith(fresh);
    }""")
    page.wait_for_selector(".db-word")


def test_a_method_that_the_host_cannot_use_says_so_and_lists_are_numbers(open_page, server, simulator) -> None:
    """Forge and its relatives ignore hypernetworks."""
    simulator.host["lacks"] = {"hypernetwork": beside("reason", Message("hosts.no_hypernetworks", host="Forge"))}
    page = open_page(server)
    page.wait_for_selector(".db-word")
    texts = page.locator("select[id^=dreambooth_method] option").all_inner_texts()
    assert [text for text in texts if "not supported by this WebUI" in text] == [
        "Hypernetwork (not supported by this WebUI)"
    ]
    assert not page.is_visible(".db-warn-text")
    hypernetwork = page.locator("select[id^=dreambooth_method] option[value=hypernetwork]")
    assert hypernetwork.is_disabled()
    page.locator("label", has_text="Put the model into the WebUI").locator("input").uncheck()  # for another program
    until(lambda: hypernetwork.is_enabled() and hypernetwork.inner_text() == "Hypernetwork")
    page.select_option("select[id^=dreambooth_method]", "hypernetwork")
    assert not page.is_visible(".db-warn-text")
    page.locator("label", has_text="Put the model into the WebUI").locator("input").check()
    page.wait_for_selector(".db-warn-text:has-text('Forge does not support hypernetworks')")
    page.set_input_files(FILES, DEMO)
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Hypernetwork')")
    assert page.get_attribute("[data-setting=layer_structure] input", "placeholder") == "1, 2, 1"
    page.fill("[data-setting=layer_structure] input", "1, 1.5, 2, 1")
    until(lambda: checked(simulator).get("layer_structure") == "1, 1.5, 2, 1")
    page.fill("[data-setting=layer_structure] input", "1, two, 1")
    page.wait_for_selector("[data-setting=layer_structure] .db-problem:has-text('is not a number')")
