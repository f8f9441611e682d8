// The queue: the waiting runs in order, each with its expected duration and start.

import { api } from "../shared/api.js";
import { button, element, fill, say, show } from "../shared/dom.js";
import { duration, moment, number } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

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

    /** @param {string[]} ids in their order  @param {object[]} runs what is known of them */
    refresh(ids, runs) {
        const known = new Map(runs.map((run) => [run.id, run]));
        show(this.element, ids.length > 0);
        say(this.why, this.app.state?.waiting || T.about);
        const rows = ids.map((id) => this.#about(id, known.get(id)));
        const key = JSON.stringify(rows);
        if (key === this.key) return;
        this.key = key;
        this.ids = ids;
        const focused = document.activeElement?.dataset?.queue;
        fill(this.list, rows.map((row, place) => this.#row(row, place)));
        if (focused) this.list.querySelector(`[data-queue="${CSS.escape(focused)}"]`)?.focus();
    }

    /** The data shown in a row; different even for runs of the same name. */
    #about(id, run = {}) {
        const { planned = {} } = this.app.state || {};
        const { steps, seconds } = planned[id] || {};
        const left = this.#before(id);
        return {
            id, name: run.name || id, method: TEXTS.methods[run.method] || run.method || "", steps, created: run.created,
            time: Number.isFinite(seconds) ? duration(seconds) : "", begins: Number.isFinite(left) && left > 0 ? duration(left) : "",
        };
    }

    /** About how many seconds until a run begins; NaN if unknown, because of other runs' durations or several devices. */
    #before(id) {
        const { planned = {}, running = [], queue = [] } = this.app.state || {};
        if (running.length > 1) return NaN;
        const rest = running.map((run) => planned[run.id]?.seconds * (1 - (run.total ? (run.step || 0) / run.total : 0)));
        const earlier = queue.slice(0, queue.indexOf(id)).map((one) => planned[one]?.seconds ?? NaN);
        return [...rest, ...earlier].reduce((sum, seconds) => sum + seconds, 0);
    }

    #row({ id, name, method, steps, created, time, begins }, place) {
        const move = (by, text, symbol) => button(symbol, () => this.#move(id, by), {
            class: "db-small db-square", title: text, "aria-label": `${text}: ${name}`, data: { queue: `${symbol} ${id}` },
            disabled: place + by < 0 || place + by >= this.ids.length,
        });
        return element(
            "li", { class: "db-queued" }, button(name, () => this.app.go("monitor", id), { class: "db-link" }),
            element("span", { class: "db-quiet db-queued-about" }, [
                method, steps ? phrase(T.steps, { steps: number(steps) }) : null, time ? phrase("≈ {time}", { time }) : null,
                created ? phrase(T.since, { time: moment(created) }) : null, begins ? phrase(T.begins, { time: begins }) : null,
            ].filter(Boolean).flatMap((part, i) => (i ? [" · ", part] : [part]))),
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
