// What waits to be trained, in order.

import { api } from "./api.js";
import { button, element, fill, say, show } from "./dom.js";
import { TEXTS } from "./texts.js";

const T = TEXTS.queue;

export class Queue {
    /** @param {object} app `state`, `go(view, id)`, `fail(error)` */
    constructor(app) {
        this.app = app;
        this.ids = [];
        this.list = element("ol", { class: "db-queue" });
        this.why = element("p", { class: "db-quiet" });
        this.element = element(
            "section", { class: "db-card", hidden: true, "aria-label": T.title }, element("h3", { class: "db-h", text: T.title }), this.why, this.list,
        );
    }

    /** @param {(string | {id: string, name: string})[]} queue  @param {object[]} runs for their names */
    refresh(queue, runs) {
        const names = new Map(runs.map((run) => [run.id, run.name]));
        const waiting = queue.map((one) => (typeof one === "string" ? { id: one } : one));
        show(this.element, waiting.length > 0);
        say(this.why, this.app.state?.waiting || T.about);
        const key = JSON.stringify(waiting.map((one) => [one.id, one.name || names.get(one.id)]));
        if (key === this.key) return;
        this.key = key;
        this.ids = waiting.map((one) => one.id);
        const focused = document.activeElement?.dataset?.queue;
        fill(this.list, waiting.map((one, place) => this.#row(one.id, one.name || names.get(one.id) || one.id, place)));
        if (focused) this.list.querySelector(`[data-queue="${CSS.escape(focused)}"]`)?.focus();
    }

    #row(id, name, place) {
        const move = (by, text, symbol) => button(symbol, () => this.#move(id, by), {
            class: "db-small db-square", title: text, "aria-label": `${text}: ${name}`, data: { queue: `${symbol} ${id}` },
            disabled: place + by < 0 || place + by >= this.ids.length,
        });
        return element(
            "li", { class: "db-queued" }, button(name, () => this.app.go("monitor", id), { class: "db-link" }),
            move(-1, T.up, "↑"), move(1, T.down, "↓"), button(T.cancel, () => this.#cancel(id), { class: "db-small", "aria-label": `${T.cancel}: ${name}` }),
        );
    }

    async #move(id, by) {
        const order = [...this.ids];
        const from = order.indexOf(id);
        order.splice(from, 1);
        order.splice(from + by, 0, id);
        await this.#tell(() => api.post(["queue"], { order }));
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
