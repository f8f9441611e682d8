// The tools to paint a mask with, and to do the same without a pointer.

import { button, element, uniqueId } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.editor;
const TOOLS = ["counts", "not", "erase", "ellipse"];
const START = [25, 15, 50, 70]; // an ellipse, in percent

export class MaskTools {
    /** @param {import("./brush.js").Brush} brush  @param {() => void} face an ellipse about the face is wished */
    constructor(brush, face) {
        this.brush = brush;
        const name = uniqueId("tool");
        const tool = (value) => element(
            "label", { class: "db-choice" },
            element("input", { type: "radio", name, value, checked: value === brush.tool, on: { change: () => (brush.tool = value) } }),
            element("span", { text: T[value] }),
        );
        const range = (text, key, min, max) => {
            const id = uniqueId(key);
            return element(
                "div", { class: "db-row" }, element("label", { class: "db-label", for: id, text }),
                element("input", { id, type: "range", class: "db-range", min, max, value: brush[key], on: { input: (event) => (brush[key] = Number(event.target.value)) } }),
            );
        };
        this.face = button(T.face, face, { class: "db-small" });
        this.numbers = ["left", "top", "width", "height"].map((side, place) => element("input", { type: "number", class: "db-input db-short", min: "0", max: "100", step: "1", value: START[place], "aria-label": `${T.ellipse}: ${T[side]}` }));
        this.element = element(
            "div", { class: "db-stack" },
            element("p", { class: "db-quiet", text: T.maskAbout }),
            element("div", { class: "db-choices", role: "radiogroup", "aria-label": T.tools }, TOOLS.map(tool)),
            range(T.size, "size", 1, 60), range(T.soft, "soft", 0, 100),
            element("div", { class: "db-row" }, button(T.all, () => brush.cover("#ffffff"), { class: "db-small" }), button(T.nothing, () => brush.cover("#000000"), { class: "db-small" }), button(T.invert, () => brush.invert(), { class: "db-small" }), this.face),
            element("fieldset", { class: "db-editor-ellipse" },
                element("legend", { class: "db-label", text: T.ellipseNumbers }),
                element("div", { class: "db-editor-numbers" }, this.numbers.map((input, place) => element("label", { class: "db-editor-number" }, element("span", { class: "db-label", text: T[["left", "top", "width", "height"][place]] }), input))),
                button(T.draw, () => brush.ellipse(this.numbers.map((input) => Number(input.value) || 0)), { class: "db-small" }),
            ),
        );
    }

    /** Shows an ellipse in the fields, and draws it. @param {number[]} box left, top, width, height in percent */
    ellipse(box) {
        this.numbers.forEach((input, place) => (input.value = String(Math.round(box[place]))));
        this.brush.ellipse(box);
    }

    /** @param {{faces: number[][]}} found */
    offerSubject({ faces }) {
        this.face.disabled = !faces.length;
    }
}
