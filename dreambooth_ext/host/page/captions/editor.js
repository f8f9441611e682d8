// All captions of a set beside their pictures: typed one by one or changed all at once, each change can be undone.

import { api } from "../shared/api.js";
import { append, button, debounced, element, fill, openDialog, say, show } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";
import { copyOf } from "../pictures/copying.js";
import { Row } from "./row.js";
import { Tools } from "./tools.js";
import { legend } from "./as_trained.js";
import { proposals } from "./tagging.js";

const T = TEXTS.captioning;
const ROWS = 60; // shown at once
const PAGE = 200; // pictures in an answer of captions/trained
const SLOW = 120_000; // milliseconds

export class CaptionEditor {
    /**
     * @param {import("../train/settings.js").Settings} settings
     * @param {{place: import("../pictures/cards.js").Place, own: (place: object) => Promise<object>, moved: (set: string) => void, changed: () => void}} about
     *     `own`: the place where this place's captions may be changed; `moved`: the form goes on with this set
     */
    constructor(settings, { place, own, moved, changed }) {
        Object.assign(this, { settings, place, own, moved, onChange: changed });
        this.rows = new Map();
        this.listing = null;
        this.most = ROWS;
        this.trained = new Map(); // name -> as POST captions/trained tells
        this.tools = new Tools(this);
        this.element = this.#build();
        this.load();
    }

    #build() {
        this.undo = button(T.undo, () => this.step("undo"), { class: "db-small", disabled: true });
        this.redo = button(T.redo, () => this.step("redo"), { class: "db-small", disabled: true });
        this.status = element("span", { class: "db-quiet", role: "status" });
        this.problem = element("div", { class: "db-problem", role: "alert", hidden: true });
        this.notice = element("div", { class: "db-banner", hidden: true });
        this.proposed = element("div", { hidden: true });
        this.filter = element("input", { type: "search", class: "db-input", placeholder: T.filter, "aria-label": T.filter, title: T.filterHelp, autocomplete: "off", spellcheck: "false" });
        const filtered = debounced(() => this.#draw(), 150);
        this.filter.addEventListener("input", () => ((this.most = ROWS), filtered()));
        this.bare = element("input", { type: "checkbox", on: { change: () => ((this.most = ROWS), this.#draw()) } });
        this.asTrained = element("input", { type: "checkbox", on: { change: () => this.#showTrained() } });
        this.count = element("span", { class: "db-quiet" });
        this.cut = element("span", { class: "db-warn-text" });
        this.legend = element("div", { hidden: true });
        this.list = element("ul", { class: "db-cap-rows" });
        this.more = button(T.more, () => ((this.most += ROWS), this.#draw()), { hidden: true });
        const main = element(
            "div", { class: "db-stack db-cap-main" },
            element(
                "div", { class: "db-row" }, element("span", { class: "db-cap-filter" }, this.filter),
                element("label", { class: "db-check" }, this.bare, T.withoutCaption),
                element("label", { class: "db-check", title: T.trainedHelp }, this.asTrained, T.trained), this.count, this.cut,
            ),
            this.legend, this.list, this.more, element("p", { class: "db-quiet", text: T.keys }),
        );
        const dialog = openDialog(
            T.title, { class: "db-cap" },
            element("div", { class: "db-row db-cap-head" }, this.undo, this.redo, this.status, button(T.close, () => dialog.close(), { class: "db-small db-cap-close" })),
            this.problem, this.notice, this.proposed, element("div", { class: "db-cap-columns" }, this.tools.element, main),
        );
        dialog.addEventListener("keydown", (event) => this.#onKey(event));
        return dialog;
    }

    #onKey(event) {
        const isField = event.target.matches("textarea, input:not([type=checkbox])");
        if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !isField) {
            event.preventDefault();
            this.step(event.shiftKey ? "redo" : "undo");
        }
        if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
            const fields = [...this.list.querySelectorAll("textarea")];
            const next = fields[fields.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1)];
            event.preventDefault();
            next?.focus();
        }
    }

    // --- what there is

    async load() {
        try {
            this.listing = await api.get(["captions"], this.place.query || {}, SLOW);
            this.complain(null);
        } catch (error) {
            this.complain(error);
            return;
        }
        this.#draw();
    }

    get canChange() {
        return this.place.isSet;
    }

    /** The pictures that the filter lets through. */
    get chosen() {
        const words = this.filter.value.trim().toLowerCase();
        return (this.listing?.pictures || []).filter((one) => (!words || one.caption.toLowerCase().includes(words)) && (!this.bare.checked || !one.caption));
    }

    /** Their names; null if they are all. */
    get names() {
        const { chosen } = this;
        return chosen.length === this.listing.pictures.length ? null : chosen.map((one) => one.name);
    }

    #draw() {
        const { listing, chosen } = this;
        const proposed = listing.proposals?.captions || {};
        for (const [name, row] of this.rows) {
            if (!chosen.some((one) => one.name === name)) {
                row.element.remove();
                this.rows.delete(name);
            }
        }
        chosen.slice(0, this.most).forEach((picture, index) => {
            if (!this.rows.has(picture.name)) this.rows.set(picture.name, new Row(picture, this));
            const row = this.rows.get(picture.name);
            row.refresh(picture, proposed[picture.name], this.asTrained.checked ? this.trained.get(picture.name) : null);
            if (this.list.children[index] !== row.element) this.list.insertBefore(row.element, this.list.children[index] || null);
        });
        [...this.list.children].slice(Math.min(this.most, chosen.length)).forEach((one) => one.remove());
        show(this.more, chosen.length > this.most);
        const all = listing.pictures.length;
        fill(this.count, phrase(chosen.length < all ? T.shown : T.all, { count: chosen.length, all }));
        this.#drawSteps();
        show(this.proposed, listing.proposals);
        fill(this.proposed, listing.proposals ? proposals(this) : null);
        this.tools.refresh();
        this.#drawNotice();
    }

    #drawSteps() {
        for (const [control, step, text, none] of [[this.undo, this.listing.undo, T.undoOf, T.nothingToUndo], [this.redo, this.listing.redo, T.redoOf, T.nothingToRedo]]) {
            control.disabled = !step;
            const what = step ? [T.kinds[step.kind] || step.kind, step.tags || step.find].filter(Boolean).join(" · ") : "";
            control.title = step ? plain(text, { what }) : none;
        }
    }

    #drawNotice() {
        const { pictures, used } = this.listing;
        show(this.notice, !pictures.length || used || !this.canChange);
        if (!pictures.length) say(this.notice, T.empty);
        else if (!this.canChange) fill(this.notice, element("span", { text: T.readOnly }), element("div", {}, button(T.makeCopy, () => this.#copyFolder(), { class: "db-primary db-small" })));
        else if (used) say(this.notice, T.used);
    }

    filterBy(text) {
        this.filter.value = text;
        this.most = ROWS;
        this.#draw();
    }

    // --- changes

    /** Makes a change of all chosen captions, or of those that it names. */
    async change(edit, names = this.names) {
        return this.#doing(async () => {
            await this.#ownPlace();
            const body = { set: this.place.name, edit, ...(names ? { names } : {}) };
            const answer = await api.post(["captions"], body, SLOW);
            this.#tellCount(answer.changed.length);
        });
    }

    /** Takes what a tagger proposed. @param {"empty" | "replace" | "before" | "after"} mode */
    async take(mode) {
        if (await this.change({ kind: "proposals", mode }, null)) await this.forgetProposals();
    }

    forgetProposals() {
        return this.#doing(() => api.delete(["captions", "tag", this.place.name]));
    }

    /** Does something with the set, or with its copy where runs were queued with it; whether that worked. */
    doingInSet(work) {
        return this.#doing(async () => {
            await this.#ownPlace();
            await work(this.place.name);
        });
    }

    /** Undoes or redoes a change. @param {"undo" | "redo"} which */
    step(which) {
        if ((which === "undo" ? this.undo : this.redo).disabled) return null;
        return this.#doing(async () => {
            await this.#ownPlace();
            const answer = await api.post(["captions", which], { set: this.place.name }, SLOW);
            if (answer.left.length) fill(this.status, phrase(T.left, { count: answer.left.length }));
            else this.#tellCount(answer.changed.length);
        });
    }

    #tellCount(count) {
        if (count > 1) fill(this.status, phrase(T.changed, { count }));
        else say(this.status, count ? T.oneChanged : T.noneChanged);
    }

    async #doing(work) {
        let fault = null;
        try {
            await work();
        } catch (error) {
            fault = error;
        }
        await this.load();
        if (fault) this.complain(fault); // what was loaded meanwhile has complained of nothing
        this.onChange();
        if (this.asTrained.checked) await this.#showTrained();
        return !fault;
    }

    /** A set that runs were queued with stays: from now on, this is its copy. */
    async #ownPlace() {
        const place = await this.own(this.place);
        if (!place.equals(this.place)) this.#moveTo(place);
    }

    #moveTo(place) {
        this.place = place;
        this.rows.forEach((row) => row.element.remove());
        this.rows.clear();
        fill(this.status, phrase(T.copied, { set: place.name }));
    }

    #copyFolder() {
        return this.#doing(async () => {
            const { set, left_out: leftOut } = await copyOf({ folder: this.place.name });
            this.#moveTo(await this.moved(set));
            if (leftOut.length) append(this.status, " ", phrase(TEXTS.copying.leftOut, { names: leftOut.join(", ") }));
        });
    }

    complain(error) {
        say(this.problem, error ? withRemedy(error) : "");
        show(this.problem, Boolean(error));
    }

    // --- as trained

    async #showTrained() {
        this.trained.clear();
        show(this.legend, this.asTrained.checked);
        say(this.cut, "");
        if (this.asTrained.checked) {
            try {
                await this.#fetchTrained();
            } catch (error) {
                this.complain(error);
            }
        }
        this.#draw();
    }

    async #fetchTrained() {
        const config = this.settings.config();
        const kinds = new Set();
        for (let start = 0, count = 1; start < Math.min(count, this.most); start += PAGE) {
            const answer = await api.post(["captions", "trained"], { config, start }, SLOW);
            count = answer.count;
            for (const one of answer.pictures) {
                this.trained.set(one.folder ? `${one.folder}/${one.name}` : one.name, one);
                one.spans.forEach((span) => kinds.add(span.kind));
                if (one.read < [...one.text].length) kinds.add("unread");
            }
            if (answer.cut) fill(this.cut, answer.cut > 1 ? phrase(T.cut, { count: answer.cut }) : T.oneCut);
            if (answer.problems.length && !count) this.complain(answer.problems[0]);
        }
        fill(this.legend, legend(kinds));
    }
}
