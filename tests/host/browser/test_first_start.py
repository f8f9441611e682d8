"""The page without a WebUI: an offer for somebody without a base, and the choice of where models go."""

from __future__ import annotations

from dreambooth_ext.core.guide import demo_recipe

from .test_page import until


def test_the_demo_fills_the_form_and_models_go_where_they_are_wanted(server, simulator, open_page, screenshot):
    simulator.alone()
    page = open_page(server)
    page.wait_for_selector(".db-offer:visible")
    screenshot(page, "first-start")
    page.click(".db-offer button")
    page.wait_for_selector(".db-offer", state="hidden")
    page.wait_for_selector(".db-sentence:has-text('12 pictures')")
    values = page.eval_on_selector_all("input", "all => all.map(one => one.value)")
    assert str(demo_recipe.BASE) in values and str(demo_recipe.PICTURES) in values
    place = page.get_by_label("Models go to")
    comfyui = simulator.host["publishing"]["known"][0]["folder"]
    place.select_option(comfyui)
    until(lambda: simulator.asked[-1] == ("POST", "host", {"folder": comfyui}))
    until(lambda: simulator.host["publishing"]["folder"] == comfyui == place.input_value())
    place.select_option(label="A folder of ComfyUI, SD.Next or a WebUI …")
    page.fill("form.db-beside:visible input", "/nowhere")
    page.get_by_role("button", name="Use it", exact=True).click()
    page.wait_for_selector("[role=alert]:has-text('nowhere')")
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    screenshot(page, "first-start-380")
