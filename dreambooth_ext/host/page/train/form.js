// The Train view: three questions, the base, a summary, all other settings, and the Train button.

import { Advanced } from "./advanced.js";
import { api } from "../shared/api.js";
import { Checkup } from "./checkup.js";
import { element, say, show, uniqueId } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { Model } from "./model.js";
import { Offer } from "./offer.js";
import { Pictures } from "../pictures/pictures.js";
import { Presets } from "./presets.js";
import { Settings } from "./settings.js";
import { Summary } from "./summary.js";
import { TEXTS } from "../shared/texts.js";
import { Word } from "./word.js";

const PATIENCE = 8000; // milliseconds that a run waits for its check, where it is to wait in the queue anyway
const UNSEEN = { problems: [] }; // in the place of a check's result

const after = (pause, value) => new Promise((resolve) => setTimeout(() => resolve(value), pause));

export class Form {
    /** @param {object} app `schema`, `host` (as GET host), `go(view, id)`, `tell(text)`, `fail(error)` */
    constructor(app) {
        this.app = app;
        this.settings = new Settings(app.schema);
        this.asked = false; // whether Train was pressed: from then on, what is missing is a problem
        this.result = null;
        this.pictures = new Pictures(this.settings);
        this.advanced = new Advanced(this.settings);
        this.summary = new Summary(this);
        this.presets = new Presets(this);
        this.offer = new Offer(this);
        this.problemBoxes = {};
        this.word = new Word(this.settings);
        this.model = new Model(app, this.settings, (field) => this.#problemBox(field));
        this.checkup = new Checkup(() => this.settings.config(), (result) => this.#show(result));
        this.element = this.#build();
        this.settings.onChange((name) => this.#changed(name));
        this.hostChanged();
        this.pictures.load();
    }

    #build() {
        const questions = element(
            "div", { class: "db-questions" },
            this.#card("1", TEXTS.train.picturesTitle, TEXTS.train.picturesAbout, this.pictures.element, "instance_data_dir"),
            (this.wordCard = this.#card("2", TEXTS.train.wordTitle, TEXTS.train.wordAbout, this.word.element, "instance_prompt")),
            (this.typeCard = this.#card("3", TEXTS.train.typeTitle, TEXTS.train.typeAbout, this.#typeChoice(), "subject_type")),
            this.#card("", TEXTS.train.modelTitle, "", this.model.element, ""),
        );
        return element(
            "div", { class: "db-train" }, this.presets.element, this.offer.element,
            element("div", { class: "db-columns" }, questions, this.summary.element), this.advanced.element,
        );
    }

    #card(number, title, about, content, field) {
        const problem = field ? this.#problemBox(field) : null;
        const aboutText = about ? element("p", { class: "db-quiet", text: about }) : null;
        if (field === "instance_data_dir") this.picturesAbout = aboutText;
        return element(
            "section", { class: "db-card", "aria-label": title },
            element(
                "div", { class: "db-card-head" }, number ? element("span", { class: "db-number", "aria-hidden": "true", text: number }) : null,
                element("div", {}, element("h3", { class: "db-h", text: title }), aboutText),
            ),
            content, problem,
        );
    }

    /** The place beside a field where its problem is shown. */
    #problemBox(field) {
        this.problemBoxes[field] = element("div", { class: "db-problem", id: uniqueId(`${field}_problem`), hidden: true });
        return this.problemBoxes[field];
    }

    #typeChoice() {
        const name = uniqueId("type");
        this.types = {};
        const choices = this.app.schema.subject_types.map(({ name: kind }) => {
            const input = element("input", { type: "radio", name, value: kind, on: { change: () => this.settings.give("subject_type", kind) } });
            this.types[kind] = input;
            const [title, about] = TEXTS.types[kind] || [kind, ""];
            return element(
                "label", { class: "db-choice db-type" }, input,
                element("span", { class: "db-type-texts" }, element("span", { class: "db-strong", text: title }), element("span", { class: "db-quiet", text: about })),
            );
        });
        return element("div", { class: "db-choices db-types", role: "radiogroup", "aria-label": TEXTS.train.typeTitle }, choices);
    }

    // --- showing what is so ---

    /** Called when the host's data has arrived, for the first time or again. */
    hostChanged() {
        const { host } = this.app;
        this.settings.host = host;
        this.model.offerBases();
        this.summary.hostChanged();
        this.refresh();
        this.checkup.changed();
    }

    refresh() {
        const based = this.settings.uses("instance_prompt");
        show(this.wordCard, based);
        show(this.typeCard, based);
        say(this.picturesAbout, based ? TEXTS.train.picturesAbout : TEXTS.train.picturesAboutMany);
        this.types[this.settings.subjectType].checked = true;
        this.word.refresh();
        this.model.refresh();
        this.#suggestName();
        this.pictures.refresh();
        this.offer.refresh();
        this.summary.refresh();
    }

    #suggestName() {
        this.model.suggest(this.settings.pageValues().name || this.result?.filled_in?.name?.value || "");
    }

    #changed(name) {
        if (name === "*") this.advanced.replaced();
        this.refresh();
        this.checkup.changed();
        this.#mark();
    }

    #show(result) {
        this.result = result;
        this.#mark();
        this.summary.refresh();
        this.#suggestName();
    }

    /** The problems, without those of fields that are just not filled in yet. */
    problems() {
        const found = [...this.advanced.unreadable(), ...(this.result?.problems || []).map((one) => this.#inWords(one))];
        return this.asked ? found : found.filter((problem) => !this.#isStillEmpty(problem.field));
    }

    /** The warnings, except those about pictures that are still missing. */
    warnings() {
        return (this.result?.warnings || []).filter((one) => typeof one === "string" || this.asked || !this.#isStillEmpty(one.field));
    }

    missing() {
        return this.asked ? [] : (this.result?.problems || []).filter((problem) => this.#isStillEmpty(problem.field));
    }

    /** Rewords a missing folder as missing pictures if uploads are chosen, because the server knows only folders. */
    #inWords(problem) {
        const isPictures = problem.field === "instance_data_dir" || problem.field === "train_data_dir";
        const awaits = isPictures && this.settings.state.source === "upload" && !this.settings.folder;
        return awaits ? { ...problem, message: TEXTS.train.noUploads, remedy: "" } : problem;
    }

    #isStillEmpty(field) {
        if (field === "instance_data_dir" || field === "train_data_dir") return !this.settings.folder;
        if (field === "base_model") return !this.settings.given("base_model") && !this.app.host.current;
        return field === "instance_prompt" && !this.settings.word && !this.settings.given("instance_prompt");
    }

    #mark() {
        const byField = {};
        for (const problem of [...this.problems(), ...this.warnings().filter((one) => one.is_grave)]) {
            const text = withRemedy(problem);
            const field = problem.field.replace("train_data_dir", "instance_data_dir"); // one place for both
            for (const name of new Set([field.split(/[.[]/)[0], field])) byField[name] = [byField[name], text].filter(Boolean).join(" ");
        }
        for (const [name, box] of Object.entries(this.problemBoxes)) {
            say(box, byField[name] || "");
            show(box, name in byField);
        }
        this.pictures.filled = this.filledIn();
        this.advanced.refresh(this.pictures.filled, byField);
        this.presets.refresh();
    }

    /** What is filled in for settings that are left out, by the guide and by this page: {value, reason} by name. */
    filledIn() {
        const byPage = Object.fromEntries(
            Object.entries(this.settings.pageValues()).map(([name, value]) => [name, { value, reason: TEXTS.train.fromAnswers }]),
        );
        return { ...(this.result?.filled_in || {}), ...byPage };
    }

    /** Scrolls the field of a problem into view. */
    reveal(field) {
        const name = field.split(/[.[]/)[0];
        if (this.advanced.fields.has(name)) {
            this.advanced.reveal(name, field);
            return;
        }
        const pictures = this.settings.state.source === "folder" ? this.pictures.folder : this.pictures.file;
        const controls = {
            train_data_dir: pictures, instance_data_dir: pictures,
            instance_prompt: this.word.control, subject_type: this.types[this.settings.subjectType],
        };
        const control = controls[name] || this.model.control(name);
        if (!control) return;
        control.closest(".db-card").scrollIntoView({ block: "nearest" });
        control.focus();
    }

    hasField(field) {
        const name = field.split(/[.[]/)[0];
        return this.advanced.fields.has(name) || name in this.problemBoxes || name === "train_data_dir";
    }

    // --- doing ---

    /** Handles Train: runs the deep check first, unless nothing has changed since the last one. */
    async train() {
        if (this.busy) return;
        this.asked = true;
        this.summary.refresh();
        if (this.advanced.unreadable().length) {
            this.summary.focusProblems();
            return;
        }
        this.busy = true;
        this.checking = Date.now();
        this.summary.refresh();
        try {
            const result = this.checkup.isFresh ? this.result : await this.#looked();
            this.#mark();
            if (!result) {
                if (this.checkup.failure) this.app.fail(this.checkup.failure);
                else this.app.tell(TEXTS.train.changedMeanwhile);
                return;
            }
            if (result.problems.length) {
                this.summary.refresh();
                this.summary.focusProblems();
                return;
            }
            const made = await api.post(["runs"], { config: this.settings.config(), ...this.settings.wishes(this.app.host.options || {}) }, 60_000);
            this.asked = false;
            this.pictures.load(); // they are the run's now
            if (result === UNSEEN) this.app.tell(TEXTS.summary.queuedUnseen);
            this.app.go("monitor", made.id);
        } catch (error) {
            if (error.problems?.length) {
                this.result = { ...this.result, problems: error.problems };
                this.#mark();
                this.summary.refresh();
                this.summary.focusProblems();
            } else this.app.fail(error);
        } finally {
            this.busy = false;
            this.summary.refresh();
        }
    }

    /** The deep check's result. It may be slow while another run trains; the run is then queued without it. */
    async #looked() {
        const deep = this.checkup.deeply();
        const ticks = setInterval(() => this.summary.refresh(), 1000);
        try {
            const { active } = this.app.state || {};
            return await (active ? Promise.race([deep, after(PATIENCE, UNSEEN)]) : deep);
        } finally {
            clearInterval(ticks);
        }
    }

    /** Called when the form was cleared. */
    cleared() {
        this.asked = false;
        this.model.cleared();
        this.word.take("");
        this.refresh();
        this.pictures.load();
    }

    /** Loads settings of an earlier run, a preset or a file. */
    take(config, { keep = [] } = {}) {
        const { instance_data_dir: instances, train_data_dir: pixels, ...others } = config;
        const folder = instances || pixels;
        if (folder) {
            this.settings.state.source = "folder";
            this.settings.state.folder = folder;
        }
        const { instance_prompt: prompt, class_prompt: ofClass } = others;
        this.settings.state.word = this.settings.wordOf(prompt, ofClass) || (prompt ? "" : this.settings.state.word);
        this.settings.replace(others, { keep });
        this.word.take(prompt);
        this.pictures.load();
    }
}
