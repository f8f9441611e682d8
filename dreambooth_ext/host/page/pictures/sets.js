// The sets of pictures: choose one, give it a name, export and import it, and see which runs used it.

import { address, api } from "../shared/api.js";
import { append, button, element, fill, say, show, sureButton } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.sets;
const PATIENCE = 1_800_000; // milliseconds: a zip has gigabytes
const SHOWN = 5; // runs of a set
const MADE = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)\d\d-[a-z0-9]{6}$/; // what uploads.js calls a new set

/** What a set is called: its title, else the time at which it was begun, else its folder. */
export function calledAs({ name, title }) {
    const [, year, month, day, hour, minute] = MADE.exec(name) || [];
    return title || (year ? `${year}-${month}-${day} ${hour}:${minute}` : name);
}

export class Sets {
    /** @param {{current: () => string, choose: (name: string) => void, changed: () => void}} about `choose`: "" for none */
    constructor(about) {
        this.about = about;
        this.list = element("ul", { class: "db-sets" });
        this.fault = element("div", { class: "db-problem", role: "alert", hidden: true });
        this.said = element("p", { class: "db-quiet", role: "status" });
        this.bar = element("progress", { class: "db-progress", max: "1", value: "0", hidden: true, "aria-label": T.importing });
        this.file = element("input", { type: "file", accept: ".zip,application/zip", class: "db-file", "aria-label": T.import, on: { change: () => this.#import() } });
        this.element = element(
            "details", { class: "db-sets-box", on: { toggle: () => this.element.open && this.load() } },
            element("summary", { text: T.title }), this.fault, this.list, this.bar, this.said,
            element("div", { class: "db-row" }, element("label", { class: "db-button db-small" }, element("span", { text: T.import }), this.file), button(T.empty, () => this.#choose(""), { class: "db-small" })),
        );
    }

    async load() {
        try {
            const { sets } = await api.get(["pictures"], {}, 60_000);
            fill(this.list, sets.length ? sets.map((set) => this.#row(set)) : element("li", { class: "db-quiet", text: T.none }));
        } catch (error) {
            this.#complain(error);
        }
    }

    #row(set) {
        const isCurrent = set.name === this.about.current();
        const called = calledAs(set);
        const title = element("input", {
            type: "text", class: "db-input", value: set.title, placeholder: called, maxlength: "100", "aria-label": plain(T.nameOf, { name: called }),
            on: { change: () => this.#do(() => api.post(["sets", set.name], { title: title.value })) },
        });
        const runs = (set.runs || []).map((run) => run.name);
        const used = runs.length ? element("p", { class: "db-quiet" }, phrase(T.usedBy, { runs: runs.slice(0, SHOWN).join(", ") }), runs.length > SHOWN ? [" ", ...phrase(T.andMore, { count: runs.length - SHOWN })] : null) : null;
        const link = element("a", { class: "db-button db-small", href: address(["sets", set.name, "export"]), download: `${called}.zip`, text: T.export, "aria-label": plain(T.exportOne, { name: called }) });
        return element(
            "li", { class: `db-set ${isCurrent ? "db-set-current" : ""}`.trim() }, title,
            element("div", { class: "db-row" },
                element("span", { class: "db-quiet" }, phrase(set.count === 1 ? TEXTS.pictures.one : TEXTS.pictures.count, { count: set.count })),
                button(isCurrent ? T.chosen : T.choose, () => this.#choose(set.name), { class: "db-small", disabled: isCurrent, "aria-label": plain(T.chooseOne, { name: called }) }),
                link, sureButton(T.delete, T.deleteSure, () => this.#delete(set.name, isCurrent), { class: "db-small" }),
            ),
            used,
        );
    }

    #choose(name) {
        this.about.choose(name);
        this.load();
    }

    async #delete(name, isCurrent) {
        if (await this.#do(() => api.delete(["pictures", name])) && isCurrent) this.about.choose("");
    }

    async #import() {
        const [file] = this.file.files;
        this.file.value = "";
        if (!file) return;
        this.bar.value = 0;
        show(this.bar, true);
        const progress = (fraction) => (this.bar.value = fraction);
        const done = await this.#do(async () => {
            const made = await api.upload(["sets"], file, { type: "application/zip", progress, timeout: PATIENCE });
            fill(this.said, phrase(T.imported, { name: calledAs({ name: made.set, title: made.title }), count: made.count }));
            if (made.left_out.length) append(this.said, " ", phrase(T.leftOut, { names: made.left_out.join(", ") }));
            this.about.choose(made.set);
        });
        show(this.bar, false);
        if (!done) say(this.said, "");
    }

    async #do(work) {
        show(this.fault, false);
        try {
            await work();
            await this.load();
            this.about.changed();
            return true;
        } catch (error) {
            this.#complain(error);
            return false;
        }
    }

    #complain(error) {
        say(this.fault, withRemedy(error));
        show(this.fault, true);
    }
}
