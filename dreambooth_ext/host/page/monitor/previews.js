// Previews: a row for each prompt, a column for each step; one can be enlarged, and keys move to its neighbours.

import { button, element, fill } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { MIRRORED, TEXTS } from "../shared/texts.js";

const T = TEXTS.previews;

export class Previews {
    constructor() {
        this.shown = ""; // what the grid was made of
        this.rows = [];
        this.grid = element("div", { class: "db-preview-scroll", tabindex: "0", role: "region", "aria-label": T.title });
        this.empty = element("p", { class: "db-quiet", text: T.none });
        this.element = element("section", { class: "db-card", "aria-label": T.title }, element("h3", { class: "db-h", text: T.title }), this.empty, this.grid);
        this.viewer = this.#buildViewer();
        this.element.append(this.viewer);
    }

    #buildViewer() {
        this.picture = element("img", { alt: "" });
        this.caption = element("p", { class: "db-viewer-caption", "aria-live": "polite" });
        const go = (rows, columns) => () => this.#step(rows, columns);
        const dialog = element(
            "dialog", { class: "db-viewer", "aria-label": T.title }, this.picture, this.caption,
            element(
                "div", { class: "db-row db-viewer-tools" },
                button(MIRRORED ? "→" : "←", go(0, -1), { "aria-label": T.earlier, title: T.earlier }),
                button(MIRRORED ? "←" : "→", go(0, 1), { "aria-label": T.later, title: T.later }),
                button("↑", go(-1, 0), { "aria-label": T.above, title: T.above }), button("↓", go(1, 0), { "aria-label": T.below, title: T.below }),
                button(T.close, () => dialog.close(), {}),
            ),
        );
        const right = MIRRORED ? -1 : 1;
        const moves = { ArrowLeft: [0, -right], ArrowRight: [0, right], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
        dialog.addEventListener("keydown", (event) => {
            event.stopPropagation(); // the WebUI has keys of its own
            if (!(event.key in moves)) return;
            event.preventDefault();
            this.#step(...moves[event.key]);
        });
        dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
        return dialog;
    }

    /** @param {Iterable<{step: number, prompt: string, seed: number, url: string}>} samples */
    refresh(samples) {
        const all = [...samples];
        const key = all.map((one) => one.url).join(" ");
        if (key === this.shown) return;
        this.shown = key;
        this.empty.hidden = all.length > 0;
        this.grid.hidden = all.length === 0;
        this.columns = [...new Set(all.map((one) => one.step))].sort((a, b) => a - b);
        const rows = new Map();
        for (const one of all) {
            const row = `${one.prompt}\n${one.seed}`;
            if (!rows.has(row)) rows.set(row, { prompt: one.prompt, seed: one.seed, pictures: new Map() });
            rows.get(row).pictures.set(one.step, one);
        }
        this.rows = [...rows.values()];
        this.#draw();
    }

    #draw() {
        const atEnd = Math.abs(this.grid.scrollLeft) + this.grid.clientWidth >= this.grid.scrollWidth - 20;
        const seeds = new Set(this.rows.map((row) => row.seed)).size > 1;
        const head = element("tr", {}, element("th", { scope: "col", text: this.rows.some((row) => row.prompt) ? T.prompt : "" }), this.columns.map((step) => element("th", { scope: "col" }, phrase(T.step, { step }))));
        const body = this.rows.map((row, r) => element(
            "tr", {}, element("th", { scope: "row" }, element("span", { text: row.prompt }), seeds ? element("span", { class: "db-quiet" }, phrase(T.seed, { seed: row.seed })) : null),
            this.columns.map((step, c) => element("td", {}, row.pictures.has(step) ? this.#cell(row.pictures.get(step), r, c) : null)),
        ));
        fill(this.grid, element("table", { class: "db-previews" }, element("thead", {}, head), element("tbody", {}, body)));
        if (atEnd) this.grid.scrollLeft = MIRRORED ? -this.grid.scrollWidth : this.grid.scrollWidth;
    }

    #cell(sample, row, column) {
        const image = element("img", { src: sample.url, alt: `${sample.prompt}, ${T.atStep} ${sample.step}`, loading: "lazy", width: "128", height: "128" });
        image.addEventListener("error", () => image.classList.add("db-broken"));
        return element("button", { type: "button", class: "db-preview", title: T.enlarge, on: { click: () => this.#open(row, column) } }, image);
    }

    #open(row, column) {
        this.place = [row, column];
        this.#showPlace();
        this.viewer.showModal();
    }

    /** The next picture in a direction, skipping empty places. */
    #step(rows, columns) {
        let [row, column] = this.place;
        for (;;) {
            row += rows;
            column += columns;
            if (row < 0 || column < 0 || row >= this.rows.length || column >= this.columns.length) return;
            if (this.rows[row].pictures.has(this.columns[column])) break;
        }
        this.place = [row, column];
        this.#showPlace();
    }

    #showPlace() {
        const [row, column] = this.place;
        const sample = this.rows[row].pictures.get(this.columns[column]);
        this.picture.src = sample.url;
        this.picture.alt = sample.prompt;
        fill(this.caption, element("span", { text: sample.prompt }), " · ", phrase(T.step, { step: sample.step }), " · ", phrase(T.seed, { seed: sample.seed }));
    }
}

