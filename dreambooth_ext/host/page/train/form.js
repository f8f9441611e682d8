// The Train view: three questions, the base, what follows from them, all other settings, and the button.

import { Advanced } from "./advanced.js";
import { api } from "../shared/api.js";
import { Checkup } from "./checkup.js";
import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { phrase, plain } from "../shared/phrase.js";
import { Pictures } from "../pictures/pictures.js";
import { Presets } from "./presets.js";
import { Settings } from "./settings.js";
import { Summary } from "./summary.js";
import { KINDS, TEXTS } from "../shared/texts.js";

const PATIENCE = 8000; // milliseconds that a run waits for its check, where it is to wait in the queue anyway
const UNSEEN = { problems: [] }; // in the place of a check's result
const DOUBTFUL = new Set(["sks"]); // words in wide use that Stable Diffusion 1.5 has a meaning for
const OTHER = "\u0000other"; // the choice of a base that the host does not list

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
            (this.wordCard = this.#card("2", TEXTS.train.wordTitle, TEXTS.train.wordAbout, this.#wordBox(), "instance_prompt")),
            (this.typeCard = this.#card("3", TEXTS.train.typeTitle, TEXTS.train.typeAbout, this.#typeChoice(), "subject_type")),
            this.#card("", TEXTS.train.modelTitle, "", this.#modelBox(), ""),
        );
        return element(
            "div", { class: "db-train" }, this.presets.element,
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
        this.problemBoxes ??= {};
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

    #wordBox() {
        const id = uniqueId("word");
        this.word = element("input", {
            id, type: "text", class: "db-input db-word", autocomplete: "off", autocapitalize: "off", spellcheck: "false", placeholder: TEXTS.train.wordExample,
            "aria-describedby": `${id}_advice`, maxlength: "60",
            on: { focus: () => this.settings.holdWord(), input: () => this.settings.rename(this.word.value) },
        });
        this.advice = element("p", { class: "db-advice", id: `${id}_advice`, "aria-live": "polite" });
        this.prompt = element("input", {
            type: "text", class: "db-input", "aria-label": TEXTS.train.prompt, autocomplete: "off", hidden: true,
            on: { input: () => this.settings.give("instance_prompt", this.prompt.value.trim() || undefined) },
        });
        this.promptShown = element("p", { class: "db-quiet db-prompt" });
        this.promptButton = button(TEXTS.train.changePrompt, () => (this.#editPrompt(), this.prompt.focus()), { class: "db-small" });
        this.promptRow = element("div", { class: "db-row" }, this.promptShown, this.promptButton);
        this.wordLabel = element("label", { class: "db-hidden", for: id, text: TEXTS.train.wordTitle });
        return element("div", { class: "db-stack" }, this.wordLabel, this.word, this.advice, this.promptRow, this.prompt);
    }

    #editPrompt(open = this.prompt.hidden) {
        if (!open) this.settings.give("instance_prompt", undefined);
        show(this.prompt, open);
        say(this.promptButton, open ? TEXTS.train.ownPromptOff : TEXTS.train.changePrompt);
        if (open) this.prompt.value = this.settings.given("instance_prompt") || this.settings.prompts().instance;
    }

    #modelBox() {
        const ids = { base: uniqueId("base"), method: uniqueId("method"), name: uniqueId("name") };
        this.base = element("select", { id: ids.base, class: "db-input", on: { change: () => this.#chooseBase() } });
        this.baseOther = element("input", {
            type: "text", class: "db-input", "aria-label": TEXTS.train.baseOther, placeholder: TEXTS.train.baseExample, hidden: true, spellcheck: "false",
            on: { input: () => this.settings.give("base_model", this.baseOther.value.trim() || undefined) },
        });
        this.method = element(
            "select", { id: ids.method, class: "db-input", on: { change: () => this.#chooseMethod() } },
            Object.entries(this.app.schema.methods).map(([value, text]) => element("option", { value, text: this.#methodName(value), title: text })),
        );
        this.methodAbout = element("p", { class: "db-quiet" });
        this.methodNote = element("p", { class: "db-warn-text", hidden: true });
        this.name = element("input", {
            id: ids.name, type: "text", class: "db-input", autocomplete: "off", spellcheck: "false",
            on: { input: () => this.settings.give("name", this.name.value.trim() || this.name.value || undefined) },
        });
        const renew = button("↻", () => this.app.askHost(), { class: "db-small db-square", title: TEXTS.train.renew, "aria-label": TEXTS.train.renew });
        const field = (id, text, setting, ...controls) => element(
            "div", { class: "db-field" }, element("label", { class: "db-label", for: id, text }), controls, this.#problemBox(setting),
        );
        return element(
            "div", { class: "db-model-fields" },
            field(ids.base, TEXTS.train.base, "base_model", element("div", { class: "db-beside" }, this.base, renew), this.baseOther),
            field(ids.name, TEXTS.train.name, "name", this.name),
            field(ids.method, TEXTS.train.method, "method", this.method, this.methodAbout, this.methodNote),
        );
    }

    /** What the host cannot use is said before it is chosen. */
    #methodName(method) {
        const name = TEXTS.methods[method] || method;
        return this.app.host.lacks[KINDS[method]] ? `${name} (${TEXTS.train.notHere})` : name;
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

    #chooseMethod() {
        this.settings.give("method", this.method.value);
    }

    // --- showing what is so ---

    /** The host told of itself, for the first time or again. */
    hostChanged() {
        const { host } = this.app;
        this.settings.host = host;
        this.#offerBases();
        this.summary.hostChanged();
        this.refresh();
        this.checkup.changed();
    }

    /** The host's checkpoints; a method without a base starts from nothing, or from a model that is named. */
    #offerBases() {
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
        const { settings } = this;
        const typed = (input, value) => document.activeElement !== input && (input.value = value);
        typed(this.word, settings.state.word);
        this.types[settings.subjectType].checked = true;
        typed(this.name, settings.given("name") || "");
        this.name.placeholder = settings.pageValues().name || this.result?.filled_in?.name?.value || "";
        this.method.value = settings.method;
        this.#showBase();
        this.#showWord();
        this.#showMethod();
        this.pictures.refresh();
        this.summary.refresh();
    }

    #showBase() {
        const given = this.settings.given("base_model");
        if (this.basesFor !== this.settings.uses("instance_data_dir") || this.offered !== given) this.#offerBases();
        const listed = !given || this.app.host.bases.some((base) => base.path === given);
        if (listed && !(this.base.value === OTHER && !given)) this.base.value = given || "";
        else this.base.value = OTHER;
        show(this.baseOther, this.base.value === OTHER);
        if (given && !listed && document.activeElement !== this.baseOther) this.baseOther.value = given;
    }

    #showMethod() {
        const why = this.app.host.lacks?.[KINDS[this.settings.method] || ""] || "";
        say(this.methodAbout, this.app.schema.methods[this.settings.method]?.replace(/^[^:]*: */, ""));
        const based = this.settings.uses("instance_prompt");
        show(this.wordCard, based);
        show(this.typeCard, based);
        say(this.picturesAbout, based ? TEXTS.train.picturesAbout : TEXTS.train.picturesAboutMany);
        say(this.methodNote, why);
        show(this.methodNote, Boolean(why));
    }

    #showWord() {
        const { settings } = this;
        const { word } = settings;
        const needed = settings.bindsWord || settings.teachesWord;
        this.word.disabled = !needed;
        const problem = word ? settings.wordProblem(word) : "";
        const isDoubtful = DOUBTFUL.has(word.toLowerCase());
        this.advice.className = `db-advice ${word && needed && !isDoubtful ? (problem ? "db-bad" : "db-good") : ""}`;
        if (!needed) say(this.advice, TEXTS.train.noWord);
        else if (!word) this.#adviseWithoutWord();
        else if (problem) fill(this.advice, phrase(TEXTS.train.badWord, { word, problem: document.createTextNode(problem) }), " ", settings.schema.identifier.advice);
        else fill(this.advice, phrase(isDoubtful ? TEXTS.train.doubtfulWord : TEXTS.train.goodWord, { word }), settings.teachesWord ? [" ", phrase(TEXTS.train.calledBy, { name: settings.given("name") || settings.suggestedName() })] : null);
        const prompt = settings.given("instance_prompt") || settings.prompts().instance;
        show(this.promptRow, settings.bindsWord && (Boolean(prompt) || !this.prompt.hidden));
        fill(this.promptShown, prompt ? phrase(TEXTS.train.promptIs, { prompt }) : null);
        if (settings.given("instance_prompt") && this.prompt.hidden) this.#editPrompt(true);
        if (settings.given("instance_prompt") && document.activeElement !== this.prompt) this.prompt.value = settings.given("instance_prompt");
    }

    #adviseWithoutWord() {
        const found = this.settings.bindsWord ? this.settings.identifiers() : [];
        if (!this.settings.bindsWord) say(this.advice, TEXTS.train.wordIsName);
        else if (found.length > 1) fill(this.advice, phrase(TEXTS.train.severalWords, { words: found.slice(0, 8).join(", ") }));
        else if (found.length === 1) fill(this.advice, phrase(TEXTS.train.oneFileWord, { word: found[0] }));
        else say(this.advice, TEXTS.train.wordAdvice);
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
        this.name.placeholder = this.settings.pageValues().name || result.filled_in?.name?.value || "";
    }

    /** What was found, without what is only not filled in yet. */
    problems() {
        const found = [...this.advanced.unreadable(), ...(this.result?.problems || []).map((one) => this.#inWords(one))];
        return this.asked ? found : found.filter((problem) => !this.#isStillEmpty(problem.field));
    }

    /** Warnings; not of pictures that are still to come. */
    warnings() {
        return (this.result?.warnings || []).filter((one) => typeof one === "string" || this.asked || !this.#isStillEmpty(one.field));
    }

    missing() {
        return this.asked ? [] : (this.result?.problems || []).filter((problem) => this.#isStillEmpty(problem.field));
    }

    /** The server knows folders alone; where uploads are chosen, pictures are what is missing. */
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
            const text = `${problem.message} ${problem.remedy || ""}`.trim();
            const field = problem.field.replace("train_data_dir", "instance_data_dir"); // one place for both
            for (const name of new Set([field.split(/[.[]/)[0], field])) byField[name] = [byField[name], text].filter(Boolean).join(" ");
        }
        for (const [name, box] of Object.entries(this.problemBoxes)) {
            say(box, byField[name] || "");
            show(box, name in byField);
        }
        const byPage = Object.fromEntries(
            Object.entries(this.settings.pageValues()).map(([name, value]) => [name, { value, reason: TEXTS.train.fromAnswers }]),
        );
        this.advanced.refresh({ ...(this.result?.filled_in || {}), ...byPage }, byField);
    }

    /** Brings the field of a problem into view. */
    reveal(field) {
        const name = field.split(/[.[]/)[0];
        if (this.advanced.fields.has(name)) {
            this.advanced.reveal(name, field);
            return;
        }
        const pictures = this.settings.state.source === "folder" ? this.pictures.folder : this.pictures.file;
        const controls = {
            train_data_dir: pictures, instance_data_dir: pictures,
            instance_prompt: this.prompt.hidden ? this.word : this.prompt, subject_type: this.types[this.settings.subjectType],
            base_model: this.baseOther.hidden ? this.base : this.baseOther, name: this.name, method: this.method,
        };
        const control = controls[name];
        if (!control) return;
        control.closest(".db-card").scrollIntoView({ block: "nearest" });
        control.focus();
    }

    hasField(field) {
        const name = field.split(/[.[]/)[0];
        return this.advanced.fields.has(name) || name in this.problemBoxes || name === "train_data_dir";
    }

    // --- doing ---

    /** Train: checks deeply first, unless nothing has changed since. */
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

    /** The deep check's result. While another run trains it may take long: then the queue does not wait for it. */
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

    /** The form was emptied. */
    cleared() {
        this.asked = false;
        this.baseOther.value = "";
        this.base.value = "";
        show(this.prompt, false);
        this.refresh();
        this.pictures.load();
    }

    /** Settings of an earlier run, a preset or a file. */
    take(config, { keep = [] } = {}) {
        const { instance_data_dir: instances, train_data_dir: pixels, ...others } = config;
        const folder = instances || pixels;
        if (folder) {
            this.settings.state.source = "folder";
            this.settings.state.folder = folder;
        }
        const { instance_prompt: prompt, class_prompt: ofClass } = others;
        this.settings.state.word = this.settings.wordOf(prompt, ofClass) || (prompt ? "" : this.settings.state.word);
        this.word.value = this.settings.state.word;
        this.settings.replace(others, { keep });
        if (prompt) this.#editPrompt(true);
        else show(this.prompt, false);
        this.pictures.load();
    }
}
