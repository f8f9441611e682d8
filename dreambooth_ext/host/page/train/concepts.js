// The setting "concepts" for several subjects: a row of fields for each, instead of JSON.

import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.concepts;
const NUMBERS = ["num_class_images", "repeats"];
const FIELDS = ["instance_data_dir", "instance_prompt", "class_prompt", "class_data_dir", ...NUMBERS];

/** A setting's field like those in advanced.js: `about`, `element`, `refresh`, `reveal`. */
export class Concepts {
    constructor(about, settings) {
        this.about = about;
        this.settings = settings;
        this.rows = [];
        this.list = element("ol", { class: "db-concepts" });
        this.adding = button(T.add, () => this.#add(), { class: "db-small" });
        this.problem = element("div", { class: "db-problem", hidden: true });
        this.element = element(
            "div", { class: "db-field db-kind-concepts", role: "group", "aria-label": about.label, data: { setting: about.name } },
            element("span", { class: "db-label", text: about.label }), element("p", { class: "db-quiet", text: T.about }),
            this.list, this.problem, element("div", {}, this.adding),
        );
        this.refresh({}, {});
    }

    /** The rows' values, without empty rows. */
    get #values() {
        return this.rows.map((row) => row.value).filter((value) => Object.keys(value).length);
    }

    /** Adds a row, after one for the subject that is already in the form. */
    #add() {
        const { settings } = this;
        if (!this.rows.length && settings.folder) {
            const prompts = settings.prompts();
            const first = { instance_data_dir: settings.folder };
            const prompt = settings.given("instance_prompt") || prompts.instance;
            if (prompt) first.instance_prompt = prompt;
            this.#append(first);
        }
        const made = this.#append({});
        settings.give("instance_prompt", undefined);
        this.#give();
        made.focus();
    }

    #append(value) {
        const row = new Row(this.settings, value, { changed: () => this.#give(), remove: () => this.#remove(row) });
        this.rows.push(row);
        this.list.append(row.element);
        this.#count();
        return row;
    }

    #remove(row) {
        const place = this.rows.indexOf(row);
        this.rows.splice(place, 1);
        row.element.remove();
        this.#count();
        this.#give();
        (this.rows[Math.min(place, this.rows.length - 1)]?.removing || this.adding).focus();
    }

    #count() {
        this.rows.forEach((row, place) => row.number(place + 1));
    }

    #give() {
        const values = this.#values;
        this.shown = JSON.stringify(values);
        this.settings.give(this.about.name, values.length ? values : undefined);
    }

    /** Shows the values, and each problem beside its field; `problems` also has keys such as "concepts[1].class_prompt". */
    refresh(filled, problems) {
        const { about, settings } = this;
        const given = settings.given(about.name);
        const values = Array.isArray(given) ? given : [];
        if (JSON.stringify(values) !== (this.shown ?? "[]")) {
            this.shown = JSON.stringify(values);
            this.rows = [];
            fill(this.list);
            values.forEach((value) => this.#append(value));
        }
        let place = 0;
        for (const row of this.rows) {
            const isGiven = Object.keys(row.value).length > 0;
            row.blame(isGiven ? `${about.name}[${place}]` : "", problems);
            place += isGiven;
        }
        const own = Object.keys(problems).some((field) => field.startsWith(`${about.name}[`)) ? "" : problems[about.name] || "";
        say(this.problem, own);
        show(this.problem, Boolean(own));
        this.element.classList.toggle("db-changed", values.length > 0);
        show(this.element, settings.uses(about.name));
    }

    /** Scrolls it, or one of its fields, into view. */
    reveal(field = "") {
        const group = this.element.closest("details");
        if (group) group.open = true;
        const [, place, name] = /\[(\d+)\]\.(\w+)/.exec(field) || [];
        const row = this.rows.filter((one) => Object.keys(one.value).length)[Number(place)];
        const control = row?.controls[name] || row?.removing || this.adding;
        control.scrollIntoView({ block: "center" });
        control.focus({ preventScroll: true });
    }
}

class Row {
    constructor(settings, value, { changed, remove }) {
        this.settings = settings;
        this.others = Object.fromEntries(Object.entries(value).filter(([name]) => !FIELDS.includes(name))); // of other versions
        this.controls = {};
        this.problems = {};
        this.title = element("span", { class: "db-strong" });
        this.removing = button(T.remove, remove, { class: "db-small" });
        this.problem = element("div", { class: "db-problem", hidden: true });
        this.element = element(
            "li", { class: "db-concept" }, element("div", { class: "db-row db-spread" }, this.title, this.removing),
            element("div", { class: "db-concept-fields" }, FIELDS.map((name) => this.#field(name, value[name], changed))), this.problem,
        );
    }

    #field(name, given, changed) {
        const id = uniqueId(`concept_${name}`);
        const control = element("input", {
            id, type: "text", class: "db-input", value: given ?? "", autocomplete: "off", spellcheck: "false", placeholder: T.examples[name] || null,
            inputmode: NUMBERS.includes(name) ? "numeric" : null, "aria-describedby": `${id}_problem`, data: { concept: name }, on: { input: changed },
        });
        if (name === "instance_prompt") control.addEventListener("change", () => this.#complete(changed));
        this.controls[name] = control;
        this.problems[name] = element("div", { class: "db-problem", id: `${id}_problem`, hidden: true });
        return element(
            "div", { class: `db-field ${NUMBERS.includes(name) ? "db-concept-number" : ""}` },
            element("label", { class: "db-label", for: id, text: T.fields[name] }), control, this.problems[name],
        );
    }

    /** Turns a word alone into the usual prompt for the subject type. */
    #complete(changed) {
        const control = this.controls.instance_prompt;
        const word = control.value.trim();
        if (!word || /[\s[]/.test(word)) return;
        control.value = this.settings.promptFor(word);
        changed();
    }

    get value() {
        const made = { ...this.others };
        for (const [name, control] of Object.entries(this.controls)) {
            const text = control.value.trim();
            if (text) made[name] = NUMBERS.includes(name) && /^\d+$/.test(text) ? Number(text) : text;
        }
        return made;
    }

    number(place) {
        say(this.title, plain(T.subject, { number: place }));
        this.removing.setAttribute("aria-label", plain(T.removeOne, { number: place }));
    }

    /** @param {string} prefix "concepts[1]"; "" for a row that is still empty */
    blame(prefix, problems) {
        for (const [name, box] of Object.entries(this.problems)) {
            const text = (prefix && problems[`${prefix}.${name}`]) || "";
            say(box, text);
            show(box, Boolean(text));
            this.controls[name].setAttribute("aria-invalid", String(Boolean(text)));
        }
        const others = Object.entries(problems).filter(([field]) => prefix && field.startsWith(`${prefix}.`) && !(field.slice(prefix.length + 1) in this.problems));
        say(this.problem, others.map(([field, text]) => `${field.slice(prefix.length + 1)}: ${text}`).join(" "));
        show(this.problem, others.length > 0);
    }

    focus() {
        this.controls.instance_data_dir.focus();
    }
}
