// Settings under a name, in a file, or from another trainer. What a preset would change is shown before it is applied.

import { localised } from "../shared/localised.js";
import { api } from "../shared/api.js";
import { button, download, element, fill, say, show, sureButton } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { settingText } from "../shared/setting_text.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.presets;
const OWN_WORDS = ["base_model", "name", "instance_data_dir", "train_data_dir", "instance_prompt", "class_prompt", "class_data_dir", "concepts", "subject_type"];
const LARGEST = 1024 * 1024; // letters of a file

export class Presets {
    /** @param {import("./form.js").Form} form */
    constructor(form) {
        this.form = form;
        this.known = [];
        this.applied = ""; // the preset that the form was filled from
        this.element = this.#build();
        form.settings.onChange(() => this.refresh());
        this.load();
    }

    #build() {
        this.choice = element("select", { class: "db-input db-inline", "aria-label": T.title, on: { change: () => this.#choose() } });
        this.deleteButton = sureButton(T.delete, T.deleteSure, () => this.#delete(), { class: "db-small" });
        this.saveButton = button(T.save, () => this.#askName(), { class: "db-small" });
        this.file = element("input", { type: "file", accept: ".json,.toml,.txt", class: "db-file", "aria-label": T.load, on: { change: () => this.#read() } });
        const load = element("label", { class: "db-button db-small" }, this.file, element("span", { text: T.load }));
        const keep = button(T.download, () => this.#download(), { class: "db-small" });
        const blank = sureButton(T.clear, T.clearSure, () => this.#clear(), { class: "db-small" });
        this.name = element("input", { type: "text", class: "db-input db-inline", maxlength: "100", placeholder: T.name, "aria-label": T.name });
        this.naming = element(
            "form", { class: "db-row", hidden: true, on: { submit: (event) => (event.preventDefault(), this.#save()) } },
            this.name, element("button", { type: "submit", class: "db-button db-small db-primary", text: T.keep }), button(T.cancel, () => show(this.naming, false), { class: "db-small" }),
        );
        this.note = element("div", { class: "db-quiet", role: "status" });
        this.changes = element("dl", { class: "db-facts db-changes" });
        this.would = element("h4", { class: "db-strong" });
        this.applyButton = button(T.apply, () => this.#apply(), { class: "db-small db-primary" });
        this.preview = element(
            "section", { class: "db-card", hidden: true, "aria-live": "polite" }, this.would, this.changes,
            element("div", { class: "db-row" }, this.applyButton, button(T.cancel, () => this.#forget(), { class: "db-small" })),
        );
        return element(
            "div", { class: "db-presets" },
            element("div", { class: "db-row" }, element("span", { class: "db-label", text: T.title }), this.choice, this.deleteButton, this.saveButton, load, keep, blank),
            this.naming, this.note, this.preview,
        );
    }

    async load(chosen = "") {
        try {
            this.known = ((await api.get(["presets"])).presets || []).map((one) => (
                one.built_in ? { ...one, title: localised(one.title), description: localised(one.description) } : one
            ));
        } catch (error) {
            say(this.note, withRemedy(error));
            return;
        }
        const options = (own) => this.known.filter((one) => Boolean(one.built_in) !== own)
            .map((one) => element("option", { value: one.name, text: one.title || one.name, title: one.description || null, disabled: Boolean(one.problem) }));
        const own = options(true);
        fill(
            this.choice, element("option", { value: "", text: T.none }), element("optgroup", { label: T.builtIn }, options(false)),
            own.length ? element("optgroup", { label: T.own }, own) : null,
        );
        this.#chose(chosen);
    }

    /** The form is filled from that preset now, "" for none. */
    #chose(name) {
        this.choice.value = name;
        this.applied = name;
        show(this.preview, false);
        this.#showDelete();
    }

    get #chosen() {
        return this.known.find((one) => one.name === this.choice.value);
    }

    #showDelete() {
        show(this.deleteButton, Boolean(this.#chosen) && !this.#chosen.built_in);
    }

    /** The settings of the chosen preset, and which of the form's stay beside them. */
    #given() {
        const settings = this.#chosen?.settings || {};
        return [settings, { keep: OWN_WORDS.filter((name) => !(name in settings)) }];
    }

    #choose() {
        this.#showDelete();
        say(this.note, this.#chosen?.description || "");
        this.#preview();
        if (!this.preview.hidden) this.applyButton.focus({ preventScroll: true });
    }

    /** Called when settings have changed, or what is filled in for them. */
    refresh() {
        if (!this.preview.hidden) this.#preview();
    }

    /** What would change; where nothing would, there is nothing to apply. */
    #preview() {
        const found = this.form.settings.differences(...this.#given());
        const filled = this.form.filledIn();
        const text = (about, value) => {
            const [shown, sort] = value !== undefined ? [value, ""] : filled[about.name] ? [filled[about.name].value, TEXTS.advanced.filledIn] : [about.default, TEXTS.advanced.default];
            const said = settingText(about, shown);
            return sort && shown !== null && shown !== undefined && shown !== "" ? `${said} (${sort})` : said;
        };
        fill(this.would, phrase(T.would, { name: this.#chosen?.title || this.#chosen?.name || T.wouldNone }));
        fill(this.changes, found.map(({ about, from, to }) => [
            element("dt", { text: about.label, title: about.help }),
            element("dd", {}, phrase(T.from, { value: text(about, from), to: element("b", { class: "db-value", text: to === undefined ? TEXTS.advanced[about.filled_in ? "filledIn" : "default"] : text(about, to) }) })),
        ]));
        if (found.length) show(this.preview, true);
        else this.#chose(this.choice.value);
        if (!found.length && this.choice.value) say(this.note, `${this.#chosen.description || ""} ${T.nothing}`.trim());
    }

    #apply() {
        const [settings, about] = this.#given();
        const count = this.form.settings.differences(settings, about).length;
        this.#chose(this.choice.value); // first: the change below is no other one
        this.form.settings.replace(settings, about);
        fill(this.note, phrase(T.applied, { count }));
        this.choice.focus({ preventScroll: true });
    }

    #forget() {
        this.#chose(this.applied);
        say(this.note, this.#chosen?.description || "");
        this.choice.focus({ preventScroll: true });
    }

    #askName() {
        show(this.naming, true);
        this.name.value = this.#chosen && !this.#chosen.built_in ? this.#chosen.title || this.#chosen.name : "";
        this.name.focus();
    }

    async #save() {
        const name = this.name.value.trim();
        if (!name) return;
        try {
            const made = await api.post(["presets"], { name, settings: this.form.settings.config() });
            show(this.naming, false);
            await this.load(made.name || made.preset?.name || name);
            fill(this.note, phrase(T.saved, { name }));
        } catch (error) {
            say(this.note, withRemedy(error));
        }
    }

    async #delete() {
        try {
            await api.delete(["presets", this.choice.value]);
            await this.load();
            say(this.note, T.deleted);
        } catch (error) {
            say(this.note, withRemedy(error));
        }
    }

    #download() {
        const config = this.form.settings.saved();
        download(`${config.name || "dreambooth"}.json`, `${JSON.stringify(config, null, 2)}\n`);
    }

    #clear() {
        this.#chose("");
        this.form.settings.clear();
        this.form.cleared();
        say(this.note, "");
    }

    async #read() {
        const [file] = this.file.files;
        this.file.value = "";
        if (!file) return;
        if (file.size > LARGEST) {
            say(this.note, T.tooLarge);
            return;
        }
        try {
            const found = await api.post(["import"], { text: await file.text() });
            this.#chose("");
            this.form.take(found.settings || {}, { keep: ["base_model"].filter((name) => !(found.settings || {})[name]) });
            this.#tellImported(file.name, found);
        } catch (error) {
            say(this.note, withRemedy(error));
        }
    }

    #tellImported(name, { source, settings, ignored = [] }) {
        const count = Object.keys(settings || {}).length;
        fill(
            this.note, element("p", {}, phrase(T.imported, { count, name, source: source || T.unknownSource })),
            ignored.length ? element(
                "details", { class: "db-ignored", open: ignored.length <= 8 }, element("summary", {}, phrase(T.ignored, { count: ignored.length })),
                element("ul", {}, ignored.map((one) => element("li", {}, element("code", { text: one.value ? `${one.name} = ${one.value}` : one.name }), " ", element("span", { text: one.reason })))),
            ) : null,
        );
    }
}
