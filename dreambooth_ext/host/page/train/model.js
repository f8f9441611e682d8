// The fields for the base, the method, and the new model's name.

import { Downloads } from "../download/download.js";
import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { plain } from "../shared/phrase.js";
import { KINDS, TEXTS } from "../shared/texts.js";

const OTHER = "\u0000other"; // the choice of a base that the host does not list

export class Model {
    /** @param {(field: string) => HTMLElement} problemBox makes the place beside a field where its problem is shown */
    constructor(app, settings, problemBox) {
        this.app = app;
        this.settings = settings;
        this.downloads = new Downloads(app, (base) => settings.give("base_model", base));
        this.element = this.#build(problemBox);
    }

    #build(problemBox) {
        const ids = { base: uniqueId("base"), method: uniqueId("method"), name: uniqueId("name") };
        this.base = element("select", { id: ids.base, class: "db-input", on: { change: () => this.#chooseBase() } });
        this.baseOther = element("input", {
            type: "text", class: "db-input", "aria-label": TEXTS.train.baseOther, placeholder: TEXTS.train.baseExample, hidden: true, spellcheck: "false",
            on: { input: () => this.settings.give("base_model", this.baseOther.value.trim() || undefined) },
        });
        this.method = element(
            "select", { id: ids.method, class: "db-input", on: { change: () => this.settings.give("method", this.method.value) } },
            Object.entries(this.app.schema.methods).map(([value, text]) => element("option", { value, text: TEXTS.methods[value] || value, title: text })),
        );
        this.methodAbout = element("p", { class: "db-quiet" });
        this.methodNote = element("p", { class: "db-warn-text", hidden: true });
        this.baseNote = element("p", { hidden: true });
        this.name = element("input", {
            id: ids.name, type: "text", class: "db-input", autocomplete: "off", spellcheck: "false",
            on: { input: () => this.settings.give("name", this.name.value.trim() || this.name.value || undefined) },
        });
        const renew = button("↻", () => this.app.askHost(), { class: "db-small db-square", title: TEXTS.train.renew, "aria-label": TEXTS.train.renew });
        const field = (id, text, setting, ...controls) => element(
            "div", { class: "db-field" }, element("label", { class: "db-label", for: id, text }), controls, problemBox(setting),
        );
        return element(
            "div", { class: "db-model-fields" },
            field(ids.base, TEXTS.train.base, "base_model", element("div", { class: "db-beside" }, this.base, renew), this.baseOther, this.baseNote, this.downloads.element),
            field(ids.name, TEXTS.train.name, "name", this.name),
            field(ids.method, TEXTS.train.method, "method", this.method, this.methodAbout, this.methodNote),
        );
    }

    /** Why the host cannot use what is trained with a method, or on a base; "" where it can, or shall not get it. */
    #whyNot(kind) {
        const { host } = this.app;
        return this.settings.wishes(host.options || {}).publish ? host.lacks[kind] || "" : "";
    }

    /** What the host cannot use stays in the list, with that word, and cannot be chosen. */
    #offer(option, name, kind) {
        const why = this.#whyNot(kind);
        option.textContent = why ? `${name} (${TEXTS.train.notHere})` : name;
        option.disabled = Boolean(why);
    }

    #chooseBase() {
        const { value } = this.base;
        show(this.baseOther, value === OTHER);
        if (value === OTHER) {
            this.baseOther.value = "";
            this.baseOther.focus();
        }
        this.settings.give("base_model", value === OTHER || value === "" ? undefined : value);
    }

    /** The control of a setting in this section, or undefined. */
    control(name) {
        return { base_model: this.baseOther.hidden ? this.base : this.baseOther, name: this.name, method: this.method }[name];
    }

    /** Lists the host's checkpoints; a method without a base starts from nothing, or from a model whose path is given. */
    offerBases() {
        const { host } = this.app;
        const based = this.settings.uses("instance_data_dir");
        this.basesFor = based;
        const current = host.bases.find((base) => base.path === host.current);
        const given = this.settings.given("base_model");
        const others = host.bases.filter((base) => base.path !== host.current || base.path === given); // the current one is the first
        this.offered = given;
        const chosen = this.base.value;
        const text = !based ? TEXTS.train.baseNew : host.current ? plain(TEXTS.train.baseCurrent, { name: current?.title || host.current }) : TEXTS.train.baseNone;
        fill(
            this.base, element("option", { value: "", text }),
            based ? others.map((base) => element("option", { value: base.path, text: base.title })) : null,
            host.restricted ? null : element("option", { value: OTHER, text: TEXTS.train.baseOther }),
        );
        if ([...this.base.options].some((one) => one.value === chosen)) this.base.value = chosen;
    }

    refresh() {
        if (document.activeElement !== this.name) this.name.value = this.settings.given("name") || "";
        this.method.value = this.settings.method;
        this.#showBase();
        this.#showMethod();
    }

    /** The name that the model gets if the user gives none. */
    suggest(name) {
        this.name.placeholder = name;
    }

    #showBase() {
        const given = this.settings.given("base_model");
        if (this.basesFor !== this.settings.uses("instance_data_dir") || this.offered !== given) this.offerBases();
        const listed = !given || this.app.host.bases.some((base) => base.path === given);
        if (listed && !(this.base.value === OTHER && !given)) this.base.value = given || "";
        else this.base.value = OTHER;
        show(this.baseOther, this.base.value === OTHER);
        if (given && !listed && document.activeElement !== this.baseOther) this.baseOther.value = given;
        this.#showBaseNote();
    }

    #showBaseNote() {
        const { host } = this.app;
        const bases = this.settings.uses("instance_data_dir") ? host.bases : [];
        for (const option of this.base.options) {
            const base = bases.find((one) => one.path === option.value);
            if (base) this.#offer(option, base.title, base.lacks);
        }
        const used = bases.find((base) => base.path === (this.settings.given("base_model") || host.current));
        const reasons = [...new Set(bases.map((base) => this.#whyNot(base.lacks)))].filter(Boolean);
        say(this.baseNote, reasons.length ? [...reasons, this.#otherwise()].join(" ") : "");
        this.baseNote.className = used && this.#whyNot(used.lacks) ? "db-warn-text" : "db-quiet";
        show(this.baseNote, Boolean(reasons.length));
    }

    #otherwise() {
        return plain(TEXTS.train.notHereHelp, { publish: TEXTS.summary.publish });
    }

    #showMethod() {
        for (const option of this.method.options) this.#offer(option, TEXTS.methods[option.value] || option.value, KINDS[option.value]);
        const why = this.#whyNot(KINDS[this.settings.method]);
        say(this.methodAbout, this.app.schema.methods[this.settings.method]?.replace(/^[^:]*: */, ""));
        say(this.methodNote, why && `${why} ${this.#otherwise()}`);
        show(this.methodNote, Boolean(why));
    }

    cleared() {
        this.baseOther.value = "";
        this.base.value = "";
    }
}
