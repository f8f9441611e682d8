"""The page without a WebUI: an offer for somebody without a base, and the choice of where models go."""

from __future__ import annotations

from dreambooth_ext.core.guide import demo_recipe
from tests.waiting import until

from .simulator import PAGE


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
    until(lambda: simulator.asked[-1:] == [("POST", "host", {"folder": comfyui})])
    until(lambda: simulator.host["publishing"]["folder"] == comfyui == place.input_value())
    simulator.faults["POST host"] = (422, {"error": {"message": "It is gone."}})
    place.select_option("")
    page.wait_for_selector("[role=alert]:has-text('It is gone.')")
    until(lambda: place.input_value() == comfyui)  # where they still go
    del simulator.faults["POST host"]
    place.select_option(label="A folder of ComfyUI, SD.Next or a WebUI …")
    page.fill("form.db-beside:visible input", "/nowhere")
    page.get_by_role("button", name="Use it", exact=True).click()
    page.wait_for_selector("[role=alert]:has-text('nowhere')")
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    screenshot(page, "first-start-380")


def test_after_a_lost_answer_the_set_up_is_not_said_to_be_over(server, open_page):
    lost = []

    def answer(route):
        if lost:
            return route.abort()
        building = {"action": "repair", "stage": "torch", "fraction": 0.4}
        return route.fulfill(json={"setting_up": True, "version": "1.2.3", "state": "missing", "building": building})

    page = open_page(server)
    page.route("**/setup", lambda route: route.fulfill(path=PAGE / "setup.html", content_type="text/html"))
    page.route("**/v1/environment", answer)
    page.goto(f"{server}setup")
    note = page.locator("p[role=status]")
    until(lambda: "opens here by itself" in note.inner_text())
    lost.append(True)
    until(lambda: "The tab is starting" in note.inner_text())
    lost.clear()
    until(lambda: "opens here by itself" in note.inner_text())
