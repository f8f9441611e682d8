// The WebUI's txt2img: a prompt goes into its boxes as if somebody had typed it there.

import { webui } from "./lists.js";

const BOXES = { prompt: "#txt2img_prompt textarea", negative: "#txt2img_neg_prompt textarea" };
const TAGS = { lora: "lora", hypernetwork: "hypernet" }; // methods whose models a prompt calls by name

/** Whether there is a WebUI around the page, with a txt2img. */
export function hasTxt2img() {
    return Boolean(webui()?.querySelector(BOXES.prompt));
}

/** Fills the boxes, a negative prompt only where there is one, and shows them. */
export function sendToTxt2img({ prompt, negative = "" }) {
    type(BOXES.prompt, prompt);
    if (negative) type(BOXES.negative, negative);
    if (typeof window.switch_to_txt2img === "function") window.switch_to_txt2img();
    else webui().querySelector("#tabs button")?.click();
}

/** gradio, 3 as well as 4, hears of a text by the event that typing makes. */
function type(box, text) {
    const field = webui().querySelector(box);
    if (!field) return;
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
}

/**
 * A prompt as the WebUI needs it for the model that drew the preview: those that are no checkpoint are called by it.
 * @param {string} method of the run
 * @param {string} name of its model in the WebUI, "" where there is none
 */
export function calling(prompt, method, name, weight = 1) {
    return TAGS[method] && name ? `${prompt} <${TAGS[method]}:${name}:${weight}>` : prompt;
}
