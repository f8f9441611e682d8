// Two pictures, one over the other, with a line between them that is moved.

import { element } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.comparing;

/** @param {{url: string, alt: string, label: string}[]} pictures two: the first is left of the line */
export function slider([first, second]) {
    const range = element("input", {
        type: "range", class: "db-slider-range", min: "0", max: "100", value: "50", "aria-label": T.line, dir: "ltr",
        on: { input: () => stage.style.setProperty("--db-at", `${range.value}%`), keydown: (event) => event.stopPropagation() },
    });
    const stage = element(
        "div", { class: "db-slider", dir: "ltr", style: { "--db-at": "50%" } },
        element("img", { src: second.url, alt: second.alt }), element("img", { class: "db-slider-over", src: first.url, alt: first.alt }),
        element("span", { class: "db-slider-line", "aria-hidden": "true" }), range,
    );
    return element(
        "figure", { class: "db-slider-figure" }, stage,
        element("figcaption", { class: "db-row db-spread", dir: "ltr" }, element("span", { text: first.label }), element("span", { text: second.label })),
    );
}
