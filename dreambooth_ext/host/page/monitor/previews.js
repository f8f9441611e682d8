// Previews: a row for each prompt, a column for each step; one can be enlarged, and keys move to its neighbours. When
// runs are compared, each prompt has a row for each run, and the columns are the steps that all of them have.

import { element, fill, show, swatch } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { chosenSteps } from "../plot/series.js";
import { Subject } from "./subject.js";
import { MIRRORED, TEXTS } from "../shared/texts.js";
import { Viewer } from "./viewer.js";

const T = TEXTS.previews;
const COLUMNS = 24; // steps that are shown at once: of a long run there are hundreds
const SMALL = 256; // pixels: twice what a cell has, for fine screens

export class Previews {
    /** @param {(prompt: string) => void} onSend called with a prompt that is to go to txt2img */
    constructor(onSend) {
        this.runs = []; // {id, name, colour, feed}
        this.groups = []; // of rows that belong together: {rows: [{run, prompt, seed, pictures: Map of step -> sample}]}
        this.steps = []; // all that can be enlarged
        this.place = null; // [group, step's index] of what is enlarged
        this.besides = -1; // the subject's picture beside it; -1: none
        this.subject = new Subject((place) => this.#openSubject(place));
        this.grid = element("div", { class: "db-preview-scroll", tabindex: "0", role: "region", "aria-label": T.title });
        this.empty = element("p", { class: "db-quiet", text: T.none });
        this.note = element("p", { class: "db-quiet", hidden: true });
        this.viewer = new Viewer({
            onStep: (rows, columns) => this.#step(rows, columns), onBeside: (by) => this.#setBeside(by), onSend: () => onSend(this.prompt),
        });
        this.element = element(
            "section", { class: "db-card", "aria-label": T.title }, element("h3", { class: "db-h", text: T.title }),
            this.subject.element, this.empty, this.grid, this.note, this.viewer.element,
        );
    }

    /** @param {{id: string, name: string, colour: string, feed: object}[]} runs the Monitor's own, and those beside it */
    refresh(runs) {
        const key = runs.map(({ id, name, feed }) => `${id} ${name} ${feed.samples.size} ${feed.latestSample}`).join("\n");
        if (key === this.shown) return;
        this.shown = key;
        this.runs = runs;
        const all = runs.flatMap(({ feed }) => [...feed.previews]);
        show(this.empty, all.length === 0);
        show(this.grid, all.length > 0);
        this.steps = this.#stepsOf(runs);
        this.groups = grouped(runs.map((run) => rowsOf(run)));
        this.columns = chosenSteps(this.steps, COLUMNS);
        this.#draw();
    }

    /** Of one run all, of several those that they share; where they share none, all. */
    #stepsOf(runs) {
        const sets = runs.map(({ feed }) => feed.previews).filter((one) => one.size);
        const all = [...new Set(sets.flatMap((one) => [...one]))].sort((a, b) => a - b);
        const shared = all.filter((step) => sets.every((one) => one.has(step)));
        this.hidesSome = shared.length > 0 && shared.length < all.length;
        return shared.length ? shared : all;
    }

    #draw() {
        const atEnd = Math.abs(this.grid.scrollLeft) + this.grid.clientWidth >= this.grid.scrollWidth - 20;
        const rows = this.groups.flatMap((group) => group.rows);
        const seeds = new Set(rows.map((row) => row.seed)).size > 1;
        const head = element(
            "tr", {}, element("th", { scope: "col", text: rows.some((row) => row.prompt) ? T.prompt : "" }),
            this.columns.map((step) => element("th", { scope: "col" }, step ? phrase(T.step, { step }) : T.base)),
        );
        const body = this.groups.flatMap((group, place) => group.rows.map((row, i) => element(
            "tr", { class: i ? "db-same-prompt" : "" }, this.#head(group, row, i, seeds),
            this.columns.map((step) => element("td", {}, row.pictures.has(step) ? this.#cell(row, step, place) : null)),
        )));
        fill(this.grid, element("table", { class: "db-previews" }, element("thead", {}, head), element("tbody", {}, body)));
        const isPart = this.columns.length < this.steps.length;
        show(this.note, isPart || this.hidesSome);
        fill(this.note, isPart ? phrase(T.some, { shown: this.columns.length, count: this.steps.length }) : null, isPart && this.hidesSome ? " " : null, this.hidesSome ? T.shared : null);
        if (atEnd) this.grid.scrollLeft = MIRRORED ? -this.grid.scrollWidth : this.grid.scrollWidth;
    }

    #head(group, row, i, seeds) {
        const isSaid = i > 0 && row.prompt === group.rows[0].prompt;
        const label = this.runs.length > 1 ? element("span", { class: "db-run-label" }, swatch(row.run.colour), " ", row.run.name) : null;
        const seed = seeds ? element("span", { class: "db-quiet" }, phrase(T.seed, { seed: row.seed })) : null;
        return element("th", { scope: "row" }, isSaid ? null : element("span", { text: row.prompt }), label, seed);
    }

    #cell(row, step, place) {
        const sample = row.pictures.get(step);
        const image = element("img", { src: row.run.feed.urlOf(sample, SMALL), alt: `${row.prompt}, ${T.atStep} ${step}`, loading: "lazy", width: "128", height: "128" });
        image.addEventListener("error", () => image.classList.add("db-broken"));
        const own = this.runs.length > 1 ? { class: "db-preview db-of-run", style: { "--db-own": `var(${row.run.colour})` } } : { class: "db-preview" };
        return element("button", { type: "button", ...own, title: T.enlarge, "aria-label": `${T.enlarge}: ${row.prompt}, ${T.atStep} ${step}`, on: { click: () => this.#open(place, this.steps.indexOf(step)) } }, image);
    }

    // --- enlarged

    #open(group, column) {
        this.place = [group, column];
        this.#showPlace();
    }

    /** One of the subject's own pictures, beside the newest preview. */
    #openSubject(place) {
        this.besides = place;
        const column = this.steps.length - 1;
        const group = this.groups.findIndex((one) => one.rows.some((row) => row.pictures.has(this.steps[column])));
        this.place = group < 0 ? null : [group, column];
        this.#showPlace();
    }

    #setBeside(by) {
        const { length } = this.subject.pictures;
        this.besides = by && length ? (this.besides + by + length) % length : -1;
        this.#showPlace();
    }

    #picturesAt(group, column) {
        const step = this.steps[column];
        return (this.groups[group]?.rows || []).filter((row) => row.pictures.has(step)).map((row) => ({ row, sample: row.pictures.get(step) }));
    }

    /** The next picture in a direction, skipping empty places. */
    #step(rows, columns) {
        if (!this.place) return;
        let [group, column] = this.place;
        do {
            group += rows;
            column += columns;
            if (group < 0 || column < 0 || group >= this.groups.length || column >= this.steps.length) return;
        } while (!this.#picturesAt(group, column).length);
        this.place = [group, column];
        this.#showPlace();
    }

    #showPlace() {
        const found = this.place ? this.#picturesAt(...this.place) : [];
        const many = this.runs.length > 1;
        const pictures = found.map(({ row, sample }) => ({
            url: row.run.feed.urlOf(sample), alt: row.prompt, colour: many ? row.run.colour : "", label: many ? row.run.name : "",
        }));
        const own = this.subject.pictures[this.besides];
        if (own) pictures.unshift({ url: this.subject.url(this.besides), alt: own.name, label: own.name });
        const [first] = found;
        this.prompt = first?.row.prompt || "";
        const at = this.place && (this.steps[this.place[1]] ? phrase(T.step, { step: this.steps[this.place[1]] }) : T.base);
        const caption = first ? [element("span", { text: this.prompt }), " · ", at, " · ", phrase(T.seed, { seed: first.row.seed })] : [];
        this.viewer.show(pictures, caption, { prompt: this.prompt, isBeside: Boolean(own), hasSubject: this.subject.pictures.length > 0 });
    }
}

/** A run's rows, a prompt and a seed each, in the order in which they were drawn. */
function rowsOf(run) {
    const rows = new Map();
    for (const sample of run.feed.samples.values()) {
        const key = `${sample.prompt}\n${sample.seed}`;
        if (!rows.has(key)) rows.set(key, { run, prompt: sample.prompt, seed: sample.seed, pictures: new Map() });
        rows.get(key).pictures.set(sample.step, sample);
    }
    return [...rows.values()];
}

/**
 * Rows of several runs, those together that show the same: by prompt and seed, else, since each run has a word of its own,
 * by their place among those that are left.
 */
function grouped([own = [], ...others]) {
    const groups = own.map((row) => ({ rows: [row] }));
    for (const rows of others) {
        const open = new Set(groups);
        const left = rows.filter((row) => {
            const same = [...open].find(({ rows: [first] }) => first.prompt === row.prompt && first.seed === row.seed);
            if (!same) return true;
            open.delete(same);
            same.rows.push(row);
            return false;
        });
        for (const row of left) {
            const [next] = open;
            open.delete(next);
            if (next) next.rows.push(row);
            else groups.push({ rows: [row] });
        }
    }
    return groups;
}
