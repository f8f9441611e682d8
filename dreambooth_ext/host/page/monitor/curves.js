// The card of the curves: loss and learning rate of one run, or of several in one chart, over steps or
// over time, and what the run measured of itself.

import { address } from "../shared/api.js";
import { element, fill, memory, say, show, uniqueId } from "../shared/dom.js";
import { measuredLines, regionBands } from "./measured.js";
import { interpolated } from "../plot/series.js";
import { Plot } from "../plot/plot.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.monitor;
const LOOKING = 250; // milliseconds for which a zoomed curve rests before its steps are fetched
const DASHES = [undefined, [7, 4], [2, 3], [10, 3, 2, 3]]; // of a run's rates; with several runs each has a colour of its own

export class Curves {
    /** @param {HTMLElement} beside what stands in the card above the plots */
    constructor(beside) {
        this.shown = [];
        this.isTime = memory.read("axis", "steps") === "time";
        const onLook = (from, to) => this.#lookClosely(from, to);
        this.loss = new Plot({ title: T.loss, file: "loss", raw: true, onLook });
        this.rate = new Plot({ title: T.rate, file: "rate", levels: true, onLook });
        this.measured = new Plot({ title: T.measured, file: "measured", levels: true, about: T.measuredAbout });
        this.plots = [this.loss, this.rate, this.measured];
        this.tables = element("span", { class: "db-row" });
        this.element = element(
            "section", { class: "db-card", "aria-label": T.curves, hidden: true }, this.#tools(), beside,
            element("div", { class: "db-plots" }, this.loss.element, this.rate.element, this.measured.element),
        );
        this.#useAxis();
    }

    #tools() {
        const axis = element(
            "select", { class: "db-input db-inline", "aria-label": T.axis, title: T.axis, on: { change: () => this.#chooseAxis(axis.value) } },
            ["steps", "time"].map((kind) => element("option", { value: kind, text: T.axes[kind], selected: this.isTime === (kind === "time") })),
        );
        const id = uniqueId("smoothing");
        const weight = memory.read("smoothing", 0.9);
        const shown = element("output", { class: "db-value", text: weight });
        const slider = element("input", {
            id, type: "range", min: "0", max: "0.99", step: "0.01", value: weight, class: "db-range",
            on: { input: () => (this.#smooth(Number(slider.value)), say(shown, slider.value)) },
        });
        this.loss.smooth(weight);
        return element(
            "div", { class: "db-row db-spread" }, element("h3", { class: "db-h", text: T.curves }),
            element("div", { class: "db-row" }, element("span", { class: "db-row" }, element("label", { class: "db-label", for: id, text: T.smoothing }), slider, shown), axis, this.tables),
        );
    }

    #smooth(weight) {
        memory.write("smoothing", weight);
        this.loss.smooth(weight);
    }

    #chooseAxis(kind) {
        memory.write("axis", kind);
        this.isTime = kind === "time";
        this.#useAxis();
        this.reset();
        this.draw();
    }

    #useAxis() {
        for (const plot of this.plots) plot.isTime = this.isTime;
    }

    /** All of the curves, from the beginning to the end. */
    reset() {
        for (const plot of this.plots) plot.reset();
    }

    /** Nothing is shown any more. */
    clear() {
        this.reset();
        this.refresh([]);
    }

    /** @param {{id: string, name: string, colour: string, feed: object}[]} shown the run, and those that it is compared with */
    refresh(shown) {
        this.shown = shown;
        const key = shown.map((one) => `${one.id} ${one.name}`).join("\n");
        if (this.key !== key) fill(this.tables, shown.map((one) => this.#table(one)));
        this.key = key;
        this.draw();
    }

    #table({ id, name }) {
        const many = this.shown.length > 1;
        return element("a", { class: "db-button db-small", href: address(["runs", id, "curves", "table"]), download: true, title: T.table, text: many ? `CSV: ${name}` : "CSV" });
    }

    draw() {
        const any = this.shown.some(({ feed }) => feed.steps.length > 0 || feed.validation.steps.length > 0);
        show(this.element, any); // empty axes say nothing
        const names = this.shown.map((one) => one.name);
        for (const plot of this.plots) plot.name = names.join(", ");
        this.loss.set(this.shown.flatMap((one) => this.#losses(one)), this.#marks());
        this.rate.set(this.shown.flatMap((one) => this.#rates(one)));
        this.#drawMeasured();
        const thinnings = this.shown.reduce((sum, { feed }) => sum + feed.thinnings, 0);
        if (this.thinnings !== thinnings && this.loss.range) this.#lookClosely(...this.loss.range); // it had been fetched closely
        this.thinnings = thinnings;
    }

    /** The training loss, and beside it the validation loss where pictures are held out: that one is steady as it is. */
    #losses({ name, colour, feed }) {
        const { steps, spans, losses, low, high, validation } = feed;
        const many = this.shown.length > 1;
        const own = many ? { colour, faint: 0.16 } : {};
        const curves = steps.length ? [{ name: many ? name : T.loss, xs: this.#xs(feed), steps, ys: losses, spans, low, high, ...own }] : [];
        if (!validation.steps.length) return curves;
        const xs = this.isTime ? validation.steps.map((step) => interpolated(steps, feed.seconds, step)) : validation.steps;
        const told = many ? `${name}, ${T.validationLoss}` : T.validationLoss;
        return [...curves, { name: told, xs, steps: validation.steps, ys: validation.losses, steady: true, ...own, dash: many ? DASHES[1] : undefined }];
    }

    /** What the runs measured; the regions of a single one. */
    #drawMeasured() {
        const known = this.shown.filter(({ feed }) => feed.measurements.length > 0);
        show(this.measured.element, known.length > 0);
        const many = this.shown.length > 1;
        const lines = known.flatMap((one) => measuredLines(one.feed.measurements, this.#placeOf(one.feed), many ? one : undefined));
        const bands = known.length && !many ? regionBands(known[0].feed.measurements, this.#placeOf(known[0].feed)) : [];
        this.measured.set(lines, [], bands);
    }

    /** Where a step is on the axis. */
    #placeOf(feed) {
        return (step) => (this.isTime ? (feed.steps.length ? interpolated(feed.steps, feed.seconds, step) : 0) : step);
    }

    #rates({ name, colour, feed }) {
        const many = this.shown.length > 1;
        return [...feed.rates].map(([group, ys], i) => ({
            name: many ? `${name}, ${groupName(group)}` : groupName(group), xs: this.#xs(feed), steps: feed.steps, ys, spans: feed.spans,
            ...(many ? { colour, dash: DASHES[i % DASHES.length] } : {}),
        }));
    }

    #xs(feed) {
        return this.isTime ? feed.seconds : feed.steps;
    }

    /** Of the run itself alone. */
    #marks() {
        if (!this.shown.length) return [];
        const { feed } = this.shown[0];
        const place = this.#placeOf(feed);
        const of = (kind, steps) => [...steps].filter(Number.isFinite).sort((a, b) => a - b).map((step) => ({ kind, x: place(step) }));
        return [...of("resume", feed.resumes), ...of("preview", feed.previews), ...of("save", feed.saves)];
    }

    /** Fetches the steps that are looked at, once the hand rests, where a curve has only a few of many. */
    #lookClosely(from, to) {
        clearTimeout(this.looking);
        this.looking = setTimeout(async () => {
            const { shown } = this;
            const refined = await Promise.all(shown.map(({ feed }) => this.#refine(feed, from, to)));
            if (refined.some(Boolean) && shown === this.shown) this.draw();
        }, LOOKING);
    }

    async #refine(feed, from, to) {
        const steps = this.isTime ? [from, to].map((at) => interpolated(feed.seconds, feed.steps, at)) : [from, to];
        if (!feed.steps.length || !feed.isThinned(...steps)) return false;
        try {
            return await feed.refine(...steps);
        } catch (error) {
            if (!error.isLost) throw error;
            return false; // the coarse curve stays
        }
    }
}

/** The label of a learning rate's group; LoRA+ has a separate group for its up matrices. */
function groupName(name) {
    const part = name.replace(/_up$/, "");
    return `${T.groups[part] || part}${part === name ? "" : " (LoRA+)"}`;
}
