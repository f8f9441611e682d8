// What waits to be trained, in order: for how long about, since when, until when; dragged, paused, cancelled.

import { api } from "../shared/api.js";
import { makeDraggable } from "./drag.js";
import { button, element, fill, say, show } from "../shared/dom.js";
import { duration, moment, number } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.queue;
const GRIP = "⠿";

export class Queue {
    /** @param {object} app `state`, `now()`, `go(view, id)`, `fail(error)` */
    constructor(app) {
        this.app = app;
        this.ids = [];
        this.list = element("ol", { class: "db-queue" });
        this.why = element("p", { class: "db-quiet", role: "status" });
        this.total = element("span", { class: "db-quiet" });
        this.pauseButton = button(T.pause, () => this.#pause(), { class: "db-small", title: T.pauseHelp });
        this.isDragged = makeDraggable(this.list, ".db-grip", (rows) => this.#arrange(rows.map((row) => row.dataset.queued)));
        this.element = element(
            "section", { class: "db-card", hidden: true, "aria-label": T.title },
            element("div", { class: "db-row db-spread" }, element("h3", { class: "db-h", text: T.title }), this.total, this.pauseButton), this.why, this.list,
        );
    }

    /** @param {string[]} ids in their order  @param {object[]} runs what is known of them */
    refresh(ids, runs) {
        const { waiting, paused, seconds, active } = this.app.state || {};
        show(this.element, ids.length > 0 || Boolean(paused));
        say(this.why, paused ? T.paused : waiting || T.about);
        say(this.pauseButton, paused ? T.goOn : active ? T.pauseAfter : T.pause);
        this.pauseButton.classList.toggle("db-primary", Boolean(paused));
        if (this.isDragged()) return;
        const known = new Map(runs.map((run) => [run.id, run]));
        const rows = ids.map((id) => this.#about(id, known.get(id)));
        const ends = Number.isFinite(seconds) && seconds > 0 ? duration(seconds) : "";
        const key = JSON.stringify([rows, ends]);
        if (key === this.key) return;
        this.key = key;
        this.ids = ids;
        fill(this.total, ids.length ? phrase(ends ? T.total : T.count, { count: ids.length, time: ends }) : null);
        const focused = document.activeElement?.dataset?.queue;
        fill(this.list, rows.map((row, place) => this.#row(row, place)));
        if (focused) this.list.querySelector(`[data-queue="${CSS.escape(focused)}"]`)?.focus();
    }

    /** The data shown in a row; different even for runs of the same name. */
    #about(id, run = {}) {
        const { steps, seconds, begins, since } = this.app.state?.planned?.[id] || {};
        const waits = this.app.now() - (since ?? run.created);
        return {
            id, name: run.name || id, method: TEXTS.methods[run.method] || run.method || "", steps,
            time: Number.isFinite(seconds) ? duration(seconds) : "", waits: waits >= 0 ? duration(waits < 60 ? 10 * Math.floor(waits / 10) : waits) : "",
            begins: begins > 0 ? duration(begins) : "", at: begins > 0 ? moment(60 * Math.round((this.app.now() + begins) / 60)) : "",
        };
    }

    #row({ id, name, method, steps, time, waits, begins, at }, place) {
        const named = (text) => ({ title: text, "aria-label": `${text}: ${name}` });
        const move = (by, text, symbol) => button(symbol, () => this.#move(id, by), {
            class: "db-small db-square", ...named(text), data: { queue: `${symbol} ${id}` }, disabled: place + by < 0 || place + by >= this.ids.length,
        });
        const byKey = (event) => {
            const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
            if (!by) return;
            event.preventDefault();
            this.#move(id, by);
        };
        const grip = element("button", {
            type: "button", class: "db-button db-small db-square db-grip", text: GRIP, ...named(T.drag), data: { queue: `${GRIP} ${id}` }, on: { keydown: byKey },
        });
        return element(
            "li", { class: "db-queued", data: { queued: id } }, this.ids.length > 1 ? grip : null, button(name, () => this.app.go("monitor", id), { class: "db-link" }),
            element("span", { class: "db-quiet db-queued-about" }, [
                method, steps ? phrase(T.steps, { steps: number(steps) }) : null, time ? phrase("≈ {time}", { time }) : null,
                waits ? phrase(T.waits, { time: waits }) : null, begins ? phrase(T.begins, { time: begins, at }) : null,
            ].filter(Boolean).flatMap((part, i) => (i ? [" · ", part] : [part]))),
            move(-1, T.up, "↑"), move(1, T.down, "↓"), button(T.cancel, () => this.#cancel(id), { class: "db-small", "aria-label": `${T.cancel}: ${name}` }),
        );
    }

    async #move(id, by) {
        const order = [...this.ids];
        const from = order.indexOf(id);
        if (from + by < 0 || from + by >= order.length) return;
        order.splice(from, 1);
        order.splice(from + by, 0, id);
        await this.#arrange(order);
    }

    async #arrange(order) {
        this.ids = order; // the next key may come before the answer
        this.key = ""; // drawn anew, also where the server refuses
        await this.#tell(() => api.post(["queue"], { order }));
    }

    async #pause() {
        await this.#tell(() => api.post(["queue"], { paused: !this.app.state?.paused }));
    }

    async #cancel(id) {
        await this.#tell(() => api.post(["runs", id, "commands"], { command: "stop" }));
    }

    async #tell(work) {
        try {
            await work();
        } catch (error) {
            this.app.fail(error);
        }
        this.app.pollNow();
    }
}
