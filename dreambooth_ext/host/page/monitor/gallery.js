// Draws pictures with an unconditional model, which no WebUI can do: how many, from which seed, and all drawn so far.

import { address, api } from "../shared/api.js";
import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.gallery;

export class Gallery {
    /** @param {object} app `fail(error)`, `tell(text)` */
    constructor(app) {
        this.app = app;
        this.id = "";
        const field = (text, value) => {
            const id = uniqueId("draw");
            const input = element("input", { id, type: "text", inputmode: "numeric", class: "db-input db-short", value });
            return [input, [element("label", { class: "db-label", for: id, text }), input]];
        };
        const [count, countRow] = field(T.count, "4");
        const [seed, seedRow] = field(T.seed, "0");
        const [steps, stepsRow] = field(T.steps, "");
        Object.assign(this, { count, seed, steps });
        this.steps.placeholder = T.allSteps;
        this.model = element("select", { class: "db-input db-inline", "aria-label": T.model });
        this.go = button(T.draw, () => this.#start(), { class: "db-primary db-small" });
        this.note = element("p", { class: "db-quiet", role: "status" });
        this.list = element("ul", { class: "db-grid" });
        this.element = element(
            "section", { class: "db-card", "aria-label": T.title, hidden: true }, element("h3", { class: "db-h", text: T.title }),
            element("p", { class: "db-quiet", text: T.about }),
            element("div", { class: "db-row db-inline-form" }, this.model, countRow, seedRow, stepsRow, this.go), this.note, this.list,
        );
    }

    /** @param {object} run as GET runs/{id}  @param {object[]} models its artifacts, newest first  @param {boolean} alive */
    async refresh(run, models, alive) {
        const fits = run.method === "unconditional" && models.length > 0 && !alive;
        show(this.element, fits);
        if (!fits) return;
        const names = models.map((one) => one.file).join("\n");
        if (this.names !== `${run.id} ${names}`) fill(this.model, models.map((one) => element("option", { value: one.file, text: one.file })));
        this.names = `${run.id} ${names}`;
        if (this.id !== run.id) (fill(this.list), (this.shown = ""), (this.state = ""));
        const again = this.id !== run.id || this.state === "drawing";
        this.id = run.id;
        if (again) this.#show(run.id, await api.get(["runs", run.id, "draw"]));
    }

    #show(id, found) {
        if (id !== this.id) return;
        this.state = found.state;
        this.go.disabled = found.state === "drawing";
        if (found.state === "drawing") fill(this.note, phrase(T.drawing, { done: number(found.done), of: number(found.of) }));
        else say(this.note, found.problem ? `${T.failed} ${found.problem}` : "");
        const key = found.pictures.map((one) => `${one.artifact}/${one.file}/${one.time}`).join(" ");
        if (key === this.shown) return;
        this.shown = key;
        fill(this.list, found.pictures.map((one) => {
            const url = address(["runs", id, "drawn", one.artifact, one.file], { t: Math.round(one.time * 1000) });
            const title = `${one.artifact}, ${T.seed} ${one.seed}`;
            return element("li", {}, element("a", { href: url, target: "_blank", title }, element("img", { class: "db-drawn", src: url, alt: title, loading: "lazy" })));
        }));
    }

    async #start() {
        const wanted = { num_images: Number(this.count.value), seed: Number(this.seed.value) };
        if (this.steps.value.trim()) wanted.steps = Number(this.steps.value);
        this.go.disabled = true;
        try {
            await api.post(["runs", this.id, "draw"], { artifact: this.model.value, ...wanted });
            this.state = "drawing";
        } catch (error) {
            this.app.fail(error);
            this.go.disabled = false;
        }
    }
}
