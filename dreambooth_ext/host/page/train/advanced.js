// All other settings, built from the schema: groups, controls, help and ranges of what the chosen method uses.

import { Concepts } from "./concepts.js";
import { DeviceOptions } from "./device.js";
import { button, element, fill, memory, say, show, uniqueId } from "../shared/dom.js";
import { value as written } from "../shared/format.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const ELSEWHERE = new Set(["method", "name", "base_model", "subject_type", "instance_data_dir", "train_data_dir", "instance_prompt"]);

/** Parses a control's text as the setting's value; undefined if it is empty. Throws SyntaxError. */
export function parsed(about, text) {
    const trimmed = text.trim();
    if (trimmed === "" && about.kind !== "str") return undefined;
    if (about.kind === "int" || about.kind === "float" || about.kind === "rate") {
        const number = Number(trimmed.replace(/^([-+]?\d+),(\d+)$/, "$1.$2")); // a comma for the point, as many write it
        return Number.isFinite(number) ? number : trimmed; // the server says what is wrong with it
    }
    if (about.kind === "list") return trimmed.split("\n").map((line) => line.trim()).filter(Boolean);
    if (about.kind === "dict") return JSON.parse(trimmed);
    return trimmed === "" ? undefined : trimmed;
}

/** One setting: label, control, help, reason and problem. */
export class Field {
    constructor(about, settings) {
        this.about = about;
        this.settings = settings;
        this.broken = ""; // what is wrong with a text that cannot even be read, which only this page knows
        this.id = uniqueId(about.name);
        this.#build();
        this.refresh({}, {});
    }

    #build() {
        const { about, id } = this;
        this.control = this.#control();
        this.help = element("div", { class: "db-help-text", id: `${id}_help`, text: this.#helpText(), hidden: true });
        this.helpButton = button("?", () => this.#toggleHelp(), {
            class: "db-help", "aria-expanded": "false", "aria-controls": `${id}_help`,
            "aria-label": plain(TEXTS.advanced.helpFor, { name: about.label }), title: this.#helpText(),
            on: { click: () => this.#toggleHelp(), keydown: (event) => event.key === "Escape" && this.#toggleHelp(false) },
        });
        this.undo = button("↺", () => this.#forget(), {
            class: "db-undo", title: TEXTS.advanced.undo, "aria-label": plain(TEXTS.advanced.undoFor, { name: about.label }),
        });
        this.reason = element("div", { class: "db-reason", id: `${id}_reason` });
        this.problem = element("div", { class: "db-problem", id: `${id}_problem`, hidden: true });
        const label = element("label", { class: "db-label", for: id, text: about.label });
        this.element = element(
            "div", { class: `db-field db-kind-${about.kind}`, data: { setting: about.name } },
            element("div", { class: "db-field-head" }, label, this.helpButton, this.undo),
            this.control, this.offers || [], this.help, this.reason, this.problem,
        );
    }

    #helpText() {
        const { about } = this;
        const range = about.minimum !== null && about.maximum !== null
            ? ` ${plain(TEXTS.advanced.range, { from: written(about.minimum), to: written(about.maximum) })}` : "";
        return `${about.help}${range}`;
    }

    #toggleHelp(open = this.help.hidden) {
        show(this.help, open);
        this.helpButton.setAttribute("aria-expanded", String(open));
    }

    #control() {
        const { about, id } = this;
        const common = { id, class: "db-input", "aria-describedby": `${id}_help ${id}_reason ${id}_problem` };
        if (about.name === "device") {
            const control = this.#select(common, []);
            this.devices = new DeviceOptions(control, this.byItself);
            return control;
        }
        if (about.choices) return this.#select(common, about.choices.map((one) => [one, one]));
        if (about.kind === "bool") return this.#select(common, [[true, TEXTS.advanced.on], [false, TEXTS.advanced.off]]);
        const input = { ...common, autocomplete: "off", spellcheck: "false", on: { input: () => this.#read() } };
        if (["list", "dict"].includes(about.kind)) return element("textarea", { ...input, rows: about.kind === "dict" ? 1 : 3 });
        const mode = { int: "numeric", float: "decimal" }[about.kind] || null;
        const text = element("input", { ...input, type: "text", inputmode: mode });
        return about.lists ? this.#offering(text) : text;
    }

    /** Suggestions from the host's files of a kind; any other path can be typed, too. */
    #offering(input) {
        this.offers = element("datalist", { id: `${this.id}_files` });
        input.setAttribute("list", this.offers.id);
        return input;
    }

    #offer() {
        const files = this.settings.host.files?.[this.about.lists] || [];
        if (files === this.offered) return;
        this.offered = files;
        fill(this.offers, files.map((file) => element("option", { value: file.path, label: file.title })));
    }

    /** The first option leaves the setting out; the default is not listed a second time. */
    #select(common, choices) {
        this.byItself = element("option", { value: "" });
        const others = choices.filter(([value]) => value !== this.about.default);
        return element(
            "select", { ...common, on: { change: () => this.#read() } },
            this.byItself, others.map(([value, text]) => element("option", { value: String(value), text })),
        );
    }

    #read() {
        const { about, settings, control } = this;
        if (control.tagName === "SELECT") {
            const chosen = control.value === "" ? undefined : about.kind === "bool" ? control.value === "true" : control.value;
            settings.give(about.name, chosen);
            return;
        }
        try {
            const read = parsed(about, control.value);
            this.broken = "";
            this.#blame("");
            settings.give(about.name, read);
        } catch (error) {
            this.broken = plain(TEXTS.advanced.notJson, { why: error.message });
            this.#blame(this.broken);
            settings.give(about.name, settings.given(about.name)); // the summary has one problem more
        }
    }

    #forget() {
        this.broken = "";
        this.settings.give(this.about.name, undefined);
        this.control.value = "";
        this.refresh({}, {});
        this.control.focus();
    }

    /** Called when all settings were replaced: also discards a text that could not be read. */
    replaced() {
        this.broken = "";
    }

    #blame(text) {
        say(this.problem, text);
        show(this.problem, Boolean(text));
        this.control.setAttribute("aria-invalid", String(Boolean(text)));
    }

    /** What an optional setting does if it is left out, as long as no check has filled it in. */
    #blank() {
        return this.about.filled_in ? TEXTS.advanced.auto : TEXTS.advanced.unset;
    }

    /** Shows the value, the filled-in value and its reason, and the problem. */
    refresh(filled, problems) {
        const { about, settings, control } = this;
        if (this.offers) this.#offer();
        const given = settings.given(about.name);
        const auto = filled[about.name];
        const instead = auto ? written(auto.value) : written(about.default);
        if (this.devices) this.devices.offer(settings.host.devices, given);
        else if (this.byItself) {
            const sort = auto ? TEXTS.advanced.filledIn : TEXTS.advanced.default;
            say(this.byItself, instead ? `${instead} (${sort})` : this.#blank());
        } else {
            control.placeholder = instead || (about.optional ? this.#blank() : "");
        }
        if (document.activeElement !== control && !this.broken) control.value = given === undefined ? "" : this.byItself ? String(given) : written(given);
        say(this.reason, given === undefined && auto ? auto.reason : "");
        show(this.undo, given !== undefined || Boolean(this.broken));
        this.element.classList.toggle("db-changed", given !== undefined);
        this.#blame(this.broken || problems[about.name] || "");
        show(this.element, settings.shows(about.name));
    }

    /** Scrolls it into view. */
    reveal() {
        const group = this.element.closest("details");
        if (group) group.open = true;
        this.element.scrollIntoView({ block: "center" });
        this.control.focus({ preventScroll: true });
    }
}

export class Advanced {
    constructor(settings) {
        this.settings = settings;
        this.fields = new Map();
        this.search = element("input", {
            type: "search", class: "db-input db-search", placeholder: TEXTS.advanced.search, "aria-label": TEXTS.advanced.search,
            on: { input: () => this.#filter() },
        });
        this.nothing = element("p", { class: "db-quiet", text: TEXTS.advanced.noMatch, hidden: true });
        this.groups = settings.schema.groups.map((group) => this.#group(group)).filter(Boolean);
        this.count = element("span", { class: "db-count" });
        this.element = element(
            "details", { class: "db-card db-advanced" },
            element("summary", {}, element("span", { class: "db-h", text: TEXTS.advanced.title }), element("span", { class: "db-quiet", text: TEXTS.advanced.about }), this.count),
            element("div", { class: "db-advanced-body" }, this.search, this.nothing, this.groups.map((group) => group.element)),
        );
        this.element.open = memory.read("advanced", false);
        this.element.addEventListener("toggle", () => memory.write("advanced", this.element.open));
    }

    #group({ name, title, settings: members }) {
        const fields = members.filter((one) => !ELSEWHERE.has(one.name)).map((one) => new (one.kind === "concepts" ? Concepts : Field)(one, this.settings));
        if (!fields.length) return null;
        fields.forEach((field) => this.fields.set(field.about.name, field));
        const count = element("span", { class: "db-count" });
        const box = element(
            "details", { class: "db-group" },
            element("summary", {}, element("span", { text: title || name }), count),
            element("div", { class: "db-fields" }, fields.map((field) => field.element)),
        );
        return { element: box, fields, count };
    }

    #filter() {
        const wanted = this.search.value.trim().toLowerCase();
        let found = 0;
        for (const group of this.groups) {
            let here = 0;
            for (const { about, element: row } of group.fields) {
                const text = `${about.label} ${about.name} ${about.help}`.toLowerCase();
                const fits = (wanted ? this.settings.uses(about.name) : this.settings.shows(about.name)) && text.includes(wanted);
                show(row, fits);
                here += fits;
            }
            show(group.element, here > 0);
            if (wanted) group.element.open = here > 0;
            found += here;
        }
        show(this.nothing, found === 0);
    }

    /** Problems with texts that cannot be read, which the server never sees. */
    unreadable() {
        return [...this.fields.values()].filter((field) => field.broken && this.settings.uses(field.about.name))
            .map((field) => ({ field: field.about.name, message: field.broken, remedy: "" }));
    }

    replaced() {
        this.fields.forEach((field) => field.replaced?.());
    }

    /** @param {Object<string, {value: any, reason: string}>} filled  @param {Object<string, string>} problems by setting */
    refresh(filled, problems) {
        let all = 0;
        for (const group of this.groups) {
            group.fields.forEach((field) => field.refresh(filled, problems));
            const used = group.fields.filter((field) => this.settings.uses(field.about.name));
            const changed = used.filter((field) => this.settings.given(field.about.name) !== undefined).length;
            const wrong = used.some((field) => field.about.name in problems);
            fill(group.count, changed ? `${changed}` : "");
            group.count.title = changed ? TEXTS.advanced.changedCount : "";
            group.element.classList.toggle("db-has-problem", wrong);
            show(group.element, used.length > 0);
            all += changed;
        }
        fill(this.count, all ? `${all}` : "");
        this.count.title = all ? TEXTS.advanced.changedCount : "";
        if (this.search.value.trim()) this.#filter();
    }

    /** @param {string} name of a setting  @param {string} field within it: "concepts[1].class_prompt" */
    reveal(name, field = name) {
        this.element.open = true;
        this.search.value = "";
        this.#filter();
        this.fields.get(name).reveal(field);
    }
}
