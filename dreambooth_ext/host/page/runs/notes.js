// What a user notes about a run: a star, and a text that is written in its place.

import { api } from "../shared/api.js";
import { button, element, say, show } from "../shared/dom.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.notes;
const LONGEST = 10_000; // letters, as the server takes them

export class Notes {
    /** @param {object} app `fail(error)`  @param {string} id of the run  @param {() => void} changed */
    constructor(app, id, changed) {
        Object.assign(this, { app, id, changed });
        this.star = button("", () => this.#keep({ starred: !this.starred }), { class: "db-star" });
        this.text = element("p", { class: "db-run-note", hidden: true });
        this.edit = button("", () => this.#open(), { class: "db-small" });
        this.field = element("textarea", { class: "db-input", rows: "3", maxlength: String(LONGEST), on: { keydown: (event) => this.#onKey(event) } });
        this.form = element(
            "form", { class: "db-stack", hidden: true, on: { submit: (event) => (event.preventDefault(), this.#save()) } }, this.field,
            element("div", { class: "db-row" }, element("button", { type: "submit", class: "db-button db-small db-primary", text: T.save }), button(T.cancel, () => this.#close(), { class: "db-small" })),
        );
    }

    refresh({ note = "", starred = false, name }) {
        this.note = note;
        this.starred = starred;
        say(this.star, starred ? "★" : "☆");
        this.star.setAttribute("aria-pressed", String(starred));
        this.star.title = starred ? T.unstar : T.star;
        this.star.setAttribute("aria-label", `${T.star}: ${name}`);
        this.field.setAttribute("aria-label", plain(T.of, { name }));
        say(this.text, note);
        show(this.text, Boolean(note) && this.form.hidden);
        say(this.edit, note ? T.change : T.add);
    }

    #open() {
        this.field.value = this.note;
        show(this.form, true);
        show(this.text, false);
        this.field.focus();
    }

    #close() {
        show(this.form, false);
        show(this.text, Boolean(this.note));
        this.edit.focus();
    }

    #onKey(event) {
        event.stopPropagation(); // the WebUI has keys of its own
        if (event.key === "Escape") this.#close();
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#save();
    }

    async #save() {
        if (await this.#keep({ note: this.field.value })) this.#close();
    }

    /** Whether the server has it now. */
    async #keep(notes) {
        try {
            Object.assign(this, await api.post(["runs", this.id, "notes"], notes));
        } catch (error) {
            this.app.fail(error);
            return false;
        }
        this.changed();
        return true;
    }
}
