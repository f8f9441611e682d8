// For somebody without a base: a training to try with what the program brings along, and where bases go.

import { api } from "../shared/api.js";
import { button, element, fill, show } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.offer;

export class Offer {
    /** @param {import("./form.js").Form} form */
    constructor(form) {
        this.form = form;
        this.own = element("p", { class: "db-quiet" });
        this.element = element(
            "section", { class: "db-card db-offer", "aria-label": T.title, hidden: true },
            element("h3", { class: "db-h", text: T.title }), element("p", { text: T.about }),
            element("div", { class: "db-row" }, button(T.take, () => this.#take(), { class: "db-primary" })), this.own,
        );
    }

    refresh() {
        const { host } = this.form.app;
        show(this.element, !host.bases.length && !this.form.settings.given("base_model") && this.form.settings.uses("instance_prompt"));
        fill(this.own, phrase(T.own, { folder: host.folders?.checkpoint || "" }));
    }

    async #take() {
        try {
            const { settings } = await api.get(["demo"]);
            this.form.take(settings);
            this.form.app.tell(T.taken);
        } catch (error) {
            this.form.app.fail(error);
        }
    }
}
