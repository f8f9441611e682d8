// The Compare view: a form for a new comparison, the one that is shown, and all earlier ones.

import { api } from "../shared/api.js";
import { Comparison } from "./comparison.js";
import { CompareForm } from "./form.js";
import { doing } from "../shared/doing.js";
import { button, element, fill, memory, show, sureButton } from "../shared/dom.js";
import { moment, number, size } from "../shared/format.js";
import { titleOf } from "./models.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.comparing;

export class CompareView {
    /** @param {object} app `schema`, `host`, `state`, `form`, `go(view)`, `pollNow()`, `fail(error)`, `tell(text)` */
    constructor(app) {
        this.app = app;
        this.id = memory.read("comparison", "");
        this.form = new CompareForm(app, (made) => this.#began(made));
        this.shown = new Comparison(app, () => this.#again());
        this.empty = element("p", { class: "db-quiet", text: T.none, hidden: true });
        this.list = element("ul", { class: "db-runs" });
        this.element = element(
            "div", { class: "db-stack" }, this.form.element, this.shown.element,
            element("section", { class: "db-card", "aria-label": T.earlier }, element("h3", { class: "db-h", text: T.earlier }), this.empty, this.list),
        );
    }

    /** Called when the view is opened. */
    opened() {
        this.#again();
        this.form.offer().catch((error) => this.app.fail(error));
    }

    /** Fills the form with a run's models. */
    async take(run) {
        this.app.go("compare");
        await this.form.take(run);
        this.form.element.scrollIntoView({ block: "start" });
    }

    #began(made) {
        this.app.tell(T.started);
        this.#choose(made.id);
        this.shown.element.scrollIntoView({ block: "start" });
    }

    #choose(id) {
        this.id = id;
        memory.write("comparison", id);
        this.#again();
    }

    #again() {
        this.isKnown = false;
        this.app.pollNow();
    }

    /** Updates the view; called every second while it is visible. What is done is fetched once. */
    async poll() {
        this.form.refresh();
        const { job, jobs_ended: ended } = this.app.state || {};
        const isGoing = job?.kind === "compare";
        if (this.polling || (this.isKnown && !isGoing && this.ended === ended)) return;
        this.polling = true;
        try {
            this.isKnown = true;
            this.ended = ended;
            const { comparisons = [] } = await api.get(["comparisons"], {}, 30_000);
            if (isGoing && this.goingId !== job.of && !comparisons.some((one) => one.id === this.id)) this.id = job.of;
            this.goingId = isGoing ? job.of : "";
            const id = comparisons.some((one) => one.id === this.id) ? this.id : comparisons[0]?.id;
            if (!this.hasLooked) this.form.element.open = comparisons.length === 0;
            this.hasLooked = true;
            this.shown.refresh(id ? await api.get(["comparisons", id]) : null);
            this.#drawList(comparisons, id);
        } catch (error) {
            this.isKnown = false;
            throw error;
        } finally {
            this.polling = false;
        }
    }

    #drawList(comparisons, id) {
        show(this.empty, comparisons.length === 0);
        const key = JSON.stringify([id, comparisons.map((one) => [one.id, one.state, one.done])]);
        if (key === this.key) return;
        this.key = key;
        fill(this.list, comparisons.map((one) => this.#row(one, one.id === id)));
    }

    #row(one, isShown) {
        const about = [moment(one.created), element("span", {}, phrase(T.pictures, { count: number(one.done) })), size(one.size)];
        const remove = () => doing(this.app, null, () => api.delete(["comparisons", one.id]), () => this.#again());
        return element(
            "li", { class: "db-run", data: { comparison: one.id }, "aria-current": isShown ? "true" : null },
            element(
                "div", { class: "db-run-body" },
                element("b", { text: titleOf(one) }),
                element("p", { class: "db-quiet" }, about.flatMap((part, i) => [i ? " · " : null, part]), one.state === "done" ? null : [" · ", T.kinds[one.state]]),
                element(
                    "div", { class: "db-row" }, isShown ? null : button(T.show, () => this.#choose(one.id), { class: "db-small" }),
                    one.state === "running" ? null : sureButton(T.delete, T.deleteSure, remove, { class: "db-small", title: T.deleteHelp }),
                ),
            ),
        );
    }
}
