// Where models go without a WebUI around the page: our own folder, or a program's that draws with them.

import { api } from "../shared/api.js";
import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.places;
const OTHER = "\u0000other";

export class Places {
    /** The summary shows and hides it. @param {object} app `host` as GET host, `tookHost(host)` */
    constructor(app) {
        this.app = app;
        this.element = this.#build();
    }

    #build() {
        const id = uniqueId("places");
        this.choice = element("select", { id, class: "db-input", on: { change: () => this.#choose() } });
        this.folder = element("input", { type: "text", class: "db-input", spellcheck: "false", placeholder: T.example, "aria-label": T.other });
        this.problem = element("p", { class: "db-problem", role: "alert", hidden: true });
        this.naming = element(
            "form", { class: "db-beside", hidden: true, on: { submit: (event) => (event.preventDefault(), this.#set(this.folder.value)) } },
            this.folder, button(T.use, () => this.#set(this.folder.value), { class: "db-small" }),
        );
        return element("div", { class: "db-field", hidden: true }, element("label", { class: "db-label", for: id, text: T.title }), this.choice, this.naming, this.problem);
    }

    refresh() {
        const { publishing, restricted } = this.app.host;
        const known = publishing?.known;
        if (!known) return;
        const isNaming = this.choice.value === OTHER; // the lists are renewed while somebody types
        const named = ({ program, folder }) => plain(T.program, { program, folder });
        fill(
            this.choice, element("option", { value: "", text: T.own }), known.map((one) => element("option", { value: one.folder, text: named(one) })),
            restricted ? null : element("option", { value: OTHER, text: T.other }),
        );
        this.choice.disabled = Boolean(restricted);
        this.choice.value = isNaming && !restricted ? OTHER : publishing.folder;
        show(this.naming, this.choice.value === OTHER);
    }

    #choose() {
        const { value } = this.choice;
        show(this.naming, value === OTHER);
        show(this.problem, false);
        if (value === OTHER) this.folder.focus();
        else this.#set(value);
    }

    async #set(folder) {
        show(this.problem, false);
        try {
            const host = await api.post(["host"], { folder });
            if (this.choice.value === OTHER && folder === this.folder.value) this.choice.value = "";
            this.app.tookHost(host);
        } catch (error) {
            if (this.choice.value !== OTHER) this.refresh(); // models go where they went before
            say(this.problem, withRemedy(error));
            show(this.problem, true);
        }
    }
}
