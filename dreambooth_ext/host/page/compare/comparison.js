// One comparison: a table of models and prompts, each picture to be enlarged, put beside another one, and voted on.

import { address, api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, fill, say, show } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { modelActions, nameOf, titleOf, votesOf } from "./models.js";
import { phrase } from "../shared/phrase.js";
import { slider } from "./slider.js";
import { TEXTS } from "../shared/texts.js";
import { Viewer } from "../monitor/viewer.js";
import { voteBlindly } from "./votes.js";

const T = TEXTS.comparing;
const SMALL = 512; // pixels: twice what a cell has, for fine screens

export class Comparison {
    /** @param {object} app `fail(error)`, `tell(text)`  @param {() => void} changed called after votes and a stop */
    constructor(app, changed) {
        Object.assign(this, { app, changed });
        this.told = null; // as GET comparisons/{id}
        this.at = null; // [row, column] of what is enlarged
        this.beside = ""; // the name of the model beside it, "" for none
        this.slides = true;
        this.title = element("h3", { class: "db-h" });
        this.badge = element("span", { class: "db-badge", role: "status" });
        this.bar = element("progress", { class: "db-progress", max: "1", value: "0", "aria-label": T.title });
        this.progress = element("span", { class: "db-quiet" });
        this.going = element("div", { class: "db-row", hidden: true }, this.bar, this.progress, button(T.stop, (event) => this.#stop(event.currentTarget), { class: "db-small" }));
        this.problem = element("p", { class: "db-problem", hidden: true });
        this.sheet = element("a", { class: "db-button db-small", title: T.sheetHelp, text: T.sheet, hidden: true });
        this.vote = button(T.vote, () => this.#vote(), { class: "db-small db-primary", title: T.voteHelp });
        this.grid = element("div", { class: "db-preview-scroll", tabindex: "0", role: "region", "aria-label": T.models });
        this.element = element(
            "section", { class: "db-card db-comparison", hidden: true },
            element("div", { class: "db-row db-spread" }, element("div", { class: "db-row" }, this.title, this.badge), element("div", { class: "db-row" }, this.vote, this.sheet)),
            this.going, this.problem, this.grid,
        );
    }

    /** @param {object|null} told as GET comparisons/{id}; null: none is shown */
    refresh(told) {
        const before = this.told;
        this.told = told;
        show(this.element, Boolean(told));
        if (!told) return;
        if (before?.id !== told.id) this.at = null;
        say(this.title, titleOf(told));
        say(this.badge, T.kinds[told.state] || told.state);
        this.badge.dataset.status = { running: "training", failed: "failed", stopped: "stopped" }[told.state] || "done";
        show(this.going, told.state === "running");
        this.bar.value = told.total ? told.done / told.total : 0;
        fill(this.progress, phrase(T.drawing, { done: number(told.done), total: number(told.total) }));
        show(this.problem, Boolean(told.problem));
        say(this.problem, told.problem ? `${T.failed} ${told.problem}` : "");
        show(this.sheet, told.sheet);
        this.sheet.href = this.#url("sheet.png");
        this.sheet.download = `${told.name || told.id}.png`;
        show(this.vote, told.pictures.length > 1 && told.state !== "running");
        const key = JSON.stringify([told.id, told.pictures.length, told.models.map((one) => one.votes)]);
        if (key === this.drawn) return;
        this.drawn = key;
        this.#draw();
    }

    #url(file, query = {}) {
        return address(["comparisons", this.told.id, "pictures", file], query);
    }

    #draw() {
        const { models, prompts, seeds, pictures } = this.told;
        const files = new Map(pictures.map((one) => [JSON.stringify([one.model, one.prompt, one.seed]), one.file]));
        this.rows = prompts.flatMap((prompt, place) => seeds.map((seed, i) => ({
            prompt, place, seed, isFirst: i === 0, files: models.map((model) => files.get(JSON.stringify([model.name, place, seed]))),
        })));
        const head = element("tr", {}, element("th", { scope: "col", text: T.prompt }), models.map((model) => element(
            "th", { scope: "col", title: model.file }, element("span", { class: "db-compare-name", text: nameOf(model) }), votesOf(model) ? element("span", { class: "db-quiet", text: votesOf(model) }) : null,
        )));
        const body = this.rows.map((row, place) => element(
            "tr", { class: row.isFirst ? "" : "db-same-prompt" },
            element("th", { scope: "row" }, row.isFirst ? element("span", { text: row.prompt }) : null, seeds.length > 1 ? element("span", { class: "db-quiet" }, " ", phrase(T.seed, { seed: row.seed })) : null),
            models.map((model, column) => element("td", {}, row.files[column] ? this.#cell(row, place, column) : element("span", { class: "db-awaited" }))),
        ));
        const { scrollLeft } = this.grid;
        fill(this.grid, element("table", { class: "db-previews db-compared", style: { "--db-models": String(models.length) } }, element("thead", {}, head), element("tbody", {}, body)));
        this.grid.scrollLeft = scrollLeft;
    }

    #cell(row, place, column) {
        const label = `${T.enlarge}: ${row.prompt}, ${nameOf(this.told.models[column])}`;
        const image = element("img", { src: this.#url(row.files[column], { size: SMALL }), alt: "", loading: "lazy", width: "128", height: "128" });
        image.addEventListener("error", () => image.classList.add("db-broken"));
        return element("button", { type: "button", class: "db-preview", title: T.enlarge, "aria-label": label, on: { click: () => this.#open(place, column) } }, image);
    }

    // --- enlarged

    /** Made when a picture is enlarged first. */
    get viewer() {
        if (!this.made) {
            this.made = new Viewer({ onStep: (rows, columns) => this.#step(rows, columns), earlier: T.left, later: T.right, title: T.title });
            this.element.append(this.made.element);
        }
        return this.made;
    }

    #open(row, column) {
        this.at = [row, column];
        this.#showAt();
    }

    /** The next picture in a direction, skipping those that are not drawn. */
    #step(rows, columns) {
        if (!this.at) return;
        let [row, column] = this.at;
        do {
            row += rows;
            column += columns;
            if (!this.rows[row] || column < 0 || column >= this.told.models.length) return;
        } while (!this.rows[row].files[column]);
        this.#open(row, column);
    }

    #showAt() {
        const [place, column] = this.at;
        const row = this.rows[place];
        const model = this.told.models[column];
        const picture = (i) => ({ url: this.#url(row.files[i]), alt: row.prompt, label: nameOf(this.told.models[i]) });
        const second = this.told.models.findIndex((one, i) => one.name === this.beside && i !== column && row.files[i]);
        const pictures = second < 0 ? [picture(column)] : [picture(column), picture(second)];
        const figure = second >= 0 && this.slides ? slider(pictures) : null;
        const caption = [element("span", { text: row.prompt }), " · ", phrase(T.seed, { seed: row.seed })];
        const actions = element("span", { class: "db-row" });
        const turn = (this.turn = Symbol("turn"));
        this.viewer.show(pictures, caption, { prompt: row.prompt, sends: false, figure, extra: [this.#besideTools(row, column, second), actions] });
        modelActions(this.app, model, row.prompt, () => this.viewer.element.close()).then((found) => turn === this.turn && fill(actions, found)).catch((error) => this.app.fail(error));
    }

    /** What stands beside the picture, and how. */
    #besideTools(row, column, second) {
        const others = this.told.models.map((one, i) => [one, i]).filter(([, i]) => i !== column && row.files[i]);
        const choose = element(
            "select", { class: "db-input db-inline", "aria-label": T.beside, on: { change: () => ((this.beside = choose.value), this.#showAt()) } },
            element("option", { value: "", text: `${T.beside}: ${T.nobody}` }), others.map(([one]) => element("option", { value: one.name, text: nameOf(one) })),
        );
        choose.value = second < 0 ? "" : this.beside;
        const slides = button(T.slider, () => ((this.slides = !this.slides), this.#showAt()), { class: "db-small", title: T.sliderHelp, "aria-pressed": String(this.slides), hidden: second < 0 });
        return element("span", { class: "db-row" }, choose, slides);
    }

    // --- votes, stop

    #vote() {
        const { told } = this;
        const trained = told.models.filter((one) => one.name !== "base");
        const shown = new Set((trained.length > 1 ? trained : told.models).map((one) => one.name)); // the base only where there is no other
        voteBlindly({
            app: this.app,
            pictures: told.pictures.filter((one) => shown.has(one.model)).map((one) => ({ ...one, url: this.#url(one.file), text: told.prompts[one.prompt] })),
            nameOf: (name) => nameOf(told.models.find((one) => one.name === name)),
            send: (vote) => api.post(["comparisons", told.id, "votes"], vote),
            counted: ({ votes }) => Object.entries(votes),
            changed: this.changed,
        });
    }

    #stop(pressed) {
        return doing(this.app, pressed, () => api.delete(["job"]), this.changed);
    }
}
