// Other runs beside the one that the Monitor shows: which ones, and what differs in their settings.

import { api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, fill, show, swatch } from "../shared/dom.js";
import { differences } from "./differences.js";
import { Feed } from "./feed.js";
import { moment } from "../shared/format.js";
import { COLOURS } from "../plot/plot.js";
import { plain } from "../shared/phrase.js";
import { ENDED } from "../shared/status.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.compare;
const MOST = COLOURS.length - 1; // others
const OFFERED = 200; // runs, the newest

export class Compare {
    /**
     * @param {object} app `schema`, `fail(error)`
     * @param {() => void} changed called when others are compared
     */
    constructor(app, changed) {
        Object.assign(this, { app, changed });
        this.run = null; // the Monitor's own
        this.others = []; // {id, name, created, feed, isOver}
        this.configs = new Map(); // by run; they never change
        this.chips = element("span", { class: "db-row", hidden: true });
        this.select = element("select", { class: "db-input db-inline", "aria-label": T.add, hidden: true, on: { change: () => this.#add(this.select.value) } });
        this.open = button(T.add, () => doing(this.app, this.open, () => this.#offer()), { class: "db-small", title: T.addHelp });
        this.picker = element("div", { class: "db-row db-compare" }, this.chips, this.open, this.select);
        this.table = element("div", { class: "db-scroll", tabindex: "0", role: "region", "aria-label": T.title });
        this.element = element("section", { class: "db-card", "aria-label": T.title, hidden: true }, element("h3", { class: "db-h", text: T.title }), this.table);
    }

    /** From now on beside this run; others are compared anew. */
    follow(run) {
        this.run = run;
        this.others = [];
        this.configs.clear();
        this.#draw();
    }

    /** The run itself and the others, each with its colour. @param {object} feed the run's own */
    shown(feed) {
        if (!this.run) return [];
        const all = [{ ...this.run, name: this.run.name || this.run.id, feed }, ...this.others];
        const isTwice = (name) => all.filter((one) => one.name === name).length > 1;
        return all.map(({ id, name, created, feed: own }, i) => ({ id, name: isTwice(name) ? `${name} (${moment(created)})` : name, colour: COLOURS[i], feed: own }));
    }

    /** Fetches what is new of the others. Returns whether there was anything. */
    async poll() {
        const found = await Promise.all(this.others.map((one) => this.#pull(one)));
        return found.some(Boolean);
    }

    async #pull(other) {
        if (other.isOver) return false;
        try {
            const any = await other.feed.pull();
            other.isOver = ENDED.includes(other.feed.status) && !any;
            return any;
        } catch (error) {
            if (error.status !== 404) throw error;
            this.#remove(other.id); // deleted meanwhile
            return true;
        }
    }

    /** The runs that may be chosen, as they are now. */
    async #offer() {
        const { runs = [] } = await api.get(["runs"], {}, 30_000);
        const taken = new Set([this.run?.id, ...this.others.map((one) => one.id)]);
        const free = runs.filter((one) => !taken.has(one.id) && one.status !== "damaged" && one.step > 0).slice(0, OFFERED);
        const told = (one) => [one.name || one.id, TEXTS.methods[one.method] || one.method, moment(one.created)].join(" · ");
        fill(this.select, element("option", { value: "", text: free.length ? T.choose : T.none }), free.map((one) => element("option", { value: one.id, text: told(one) })));
        this.known = new Map(free.map((one) => [one.id, one]));
        show(this.select, true);
        show(this.open, false);
        this.select.focus();
    }

    #add(id) {
        const run = this.known?.get(id);
        if (!run || this.others.length >= MOST) return;
        this.others.push({ id, name: run.name || id, created: run.created, feed: new Feed(id), isOver: false });
        this.#draw();
        this.open.focus();
        this.changed();
    }

    #remove(id) {
        this.others = this.others.filter((one) => one.id !== id);
        this.#draw();
        this.changed();
    }

    #draw() {
        show(this.select, false);
        show(this.open, this.others.length < MOST);
        const all = this.shown(null);
        show(this.chips, this.others.length > 0);
        fill(this.chips, this.others.length ? all.map((one, i) => element(
            "span", { class: "db-chip" }, swatch(one.colour), element("span", { text: one.name }),
            i ? button("×", () => this.#remove(one.id), { class: "db-chip-close", "aria-label": plain(T.remove, { name: one.name }), title: plain(T.remove, { name: one.name }) }) : null,
        )) : null);
        show(this.element, this.others.length > 0);
        this.#drawTable(all).catch((error) => this.app.fail(error));
    }

    async #config(id) {
        if (!this.configs.has(id)) this.configs.set(id, await api.get(["runs", id, "config"]));
        return this.configs.get(id);
    }

    async #drawTable(all) {
        if (all.length < 2) {
            fill(this.table);
            return;
        }
        const configs = await Promise.all(all.map(({ id }) => this.#config(id)));
        if (all.map((one) => one.id).join() !== this.shown(null).map((one) => one.id).join()) return; // changed meanwhile
        const rows = differences(this.app.schema, configs);
        fill(this.table, rows.length ? element(
            "table", { class: "db-differences" },
            element("thead", {}, element("tr", {}, element("th", { scope: "col", text: T.setting }), all.map((one) => element("th", { scope: "col" }, swatch(one.colour), " ", one.name)))),
            element("tbody", {}, rows.map((row) => element("tr", { data: { row: row.name } }, element("th", { scope: "row", text: row.label, title: row.help }), row.values.map((value) => element("td", { text: value || "–" }))))),
        ) : element("p", { class: "db-quiet", text: T.same }));
    }
}
