// Previews enlarged: one, or those of several runs side by side, beside the subject's own picture if that is wished.

import { button, element, fill, say, show, swatch } from "../shared/dom.js";
import { copied } from "../shared/clipboard.js";
import { hasTxt2img } from "../host/txt2img.js";
import { MIRRORED, TEXTS } from "../shared/texts.js";

const T = TEXTS.previews;

export class Viewer {
    /**
     * @param {object} about `onStep(rows, columns)`: another picture is wished; `onBeside(by)`: the subject's picture is
     *     wished beside it, the next one, or with 0 none any more; `onSend()`: its prompt goes to txt2img; `earlier`,
     *     `later`: what the arrows to the sides are called; `title`: the dialog's
     */
    constructor({ onStep, onBeside = () => {}, onSend = () => {}, earlier = T.earlier, later = T.later, title = T.title }) {
        this.onStep = onStep;
        this.figures = element("div", { class: "db-viewer-figures" });
        this.caption = element("p", { class: "db-viewer-caption", "aria-live": "polite" });
        this.prompt = element("textarea", { class: "db-hidden", tabindex: "-1", "aria-hidden": "true", "aria-label": T.prompt, readonly: true });
        this.said = element("span", { class: "db-quiet", role: "status" });
        const go = (rows, columns) => () => onStep(rows, columns);
        this.beside = button(T.beside, () => onBeside(this.isBeside ? 0 : 1), { "aria-pressed": "false", title: T.besideHelp });
        this.next = button(T.besideNext, () => onBeside(1));
        this.send = button(T.send, () => (this.element.close(), onSend()), { title: T.sendHelp });
        this.arrows = element(
            "span", { class: "db-row" },
            button(MIRRORED ? "→" : "←", go(0, -1), { "aria-label": earlier, title: earlier }),
            button(MIRRORED ? "←" : "→", go(0, 1), { "aria-label": later, title: later }),
            button("↑", go(-1, 0), { "aria-label": T.above, title: T.above }), button("↓", go(1, 0), { "aria-label": T.below, title: T.below }),
        );
        this.about = element("span", { class: "db-row" }, button(T.copy, () => this.#copy()), this.send);
        this.extra = element("div", { class: "db-row db-viewer-tools", hidden: true });
        this.element = element(
            "dialog", { class: "db-viewer", "aria-label": title }, this.figures, this.caption, this.prompt,
            element("div", { class: "db-row db-viewer-tools" }, this.arrows, this.beside, this.next, this.about, this.said, button(T.close, () => this.element.close(), {})),
            this.extra,
        );
        this.element.addEventListener("keydown", (event) => this.#onKey(event));
        this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
        this.element.addEventListener("close", () => fill(this.figures)); // large pictures are let go
    }

    #onKey(event) {
        event.stopPropagation(); // the WebUI has keys of its own
        if (event.target.matches("select, input")) return;
        const right = MIRRORED ? -1 : 1;
        const moves = { ArrowLeft: [0, -right], ArrowRight: [0, right], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
        if (!(event.key in moves)) return;
        event.preventDefault();
        this.onStep(...moves[event.key]);
    }

    /**
     * @param {{url: string, label: string, alt: string, colour?: string}[]} pictures
     * @param {any[]} caption
     * @param {{prompt: string, isBeside?: boolean, hasSubject?: boolean, sends?: boolean, figure?: Node, extra?: Node[]}} about
     *     `figure`: stands in the pictures' place; `extra`: further tools
     */
    show(pictures, caption, { prompt, isBeside = false, hasSubject = false, sends = true, figure = null, extra = [] }) {
        this.isBeside = isBeside;
        this.prompt.value = prompt;
        say(this.said, "");
        this.figures.dataset.count = figure ? 1 : pictures.length;
        fill(this.figures, figure || pictures.map(({ url, label, alt, colour }) => element(
            "figure", {}, element("img", { src: url, alt }),
            label ? element("figcaption", {}, colour ? swatch(colour) : null, " ", label) : null,
        )));
        fill(this.caption, caption);
        show(this.arrows, Boolean(caption.length));
        show(this.about, Boolean(prompt));
        show(this.send, sends && hasTxt2img());
        show(this.extra, extra.length > 0);
        fill(this.extra, extra);
        show(this.beside, hasSubject);
        show(this.next, hasSubject && isBeside);
        this.beside.setAttribute("aria-pressed", String(isBeside));
        if (!this.element.open) this.element.showModal();
    }

    async #copy() {
        say(this.said, (await copied(this.prompt)) ? T.copied : TEXTS.report.notCopied);
    }
}
