// The form for a new comparison: models of runs and files, a base, prompts and seeds.

import { api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { moment, number } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.comparing;
const WEIGHED = ["lora", "hypernetwork"];
const OTHER = "\u0000other"; // a file that the WebUI does not list
const OFFERED = 200; // runs, the newest

export class CompareForm {
    /** @param {object} app `schema`, `host`, `fail(error)`  @param {(made: object) => void} started */
    constructor(app, started) {
        Object.assign(this, { app, started });
        this.runs = new Map(); // id -> {run, config, rows: [{artifact, tick, weights}], element}
        this.others = []; // {path, title, weights, element}
        this.element = this.#build();
    }

    #build() {
        const again = () => this.#refresh();
        const field = (text, control, help = "") => {
            control.id = uniqueId("compare");
            return element("div", { class: "db-field" }, element("label", { class: "db-label", for: control.id, text }), control, help ? element("span", { class: "db-quiet", text: help }) : null);
        };
        const small = (value, about) => element("input", { type: "text", inputmode: "numeric", class: "db-input db-short", value, autocomplete: "off", on: { input: again }, ...about });
        this.addRun = element("select", { class: "db-input db-inline", "aria-label": T.addRun, on: { change: () => this.#addRun(this.addRun.value) } });
        this.addFile = element("select", { class: "db-input db-inline", "aria-label": T.addFile, on: { change: () => this.#addFile(this.addFile.value) } });
        this.path = element("input", { type: "text", class: "db-input", "aria-label": T.path, placeholder: T.path, spellcheck: "false", dir: "ltr" });
        this.pathRow = element("form", { class: "db-row db-inline-form", hidden: true, on: { submit: (event) => (event.preventDefault(), this.#addPath()) } }, element("div", { class: "db-grow" }, this.path), element("button", { type: "submit", class: "db-button db-small", text: T.add }));
        this.chosen = element("div", { class: "db-stack" });
        this.base = element("select", { class: "db-input", on: { change: again } });
        this.prompts = element("textarea", { class: "db-input", rows: "5", spellcheck: "false", on: { input: again, keydown: (event) => event.stopPropagation() } });
        this.type = element("select", { class: "db-input db-inline", "aria-label": TEXTS.train.typeTitle }, this.app.schema.subject_types.map((one) => element("option", { value: one.name, text: TEXTS.types[one.name]?.[0] || one.name })));
        this.word = element("input", { type: "text", class: "db-input db-short", "aria-label": T.word, placeholder: T.word, autocomplete: "off", spellcheck: "false" });
        this.own = button(T.own, () => this.#takePrompts(this.#ownPrompts()), { class: "db-small", hidden: true });
        this.count = small("2", { maxlength: "3" });
        this.seed = small("0", { maxlength: "10" });
        this.name = element("input", { type: "text", class: "db-input", autocomplete: "off", maxlength: "200" });
        this.total = element("p", { class: "db-quiet", role: "status" });
        this.start = button(T.start, () => this.#start(), { class: "db-primary" });
        this.open = element("summary", { class: "db-h", text: T.title });
        return element(
            "details", { class: "db-card", open: true }, this.open,
            element(
                "div", { class: "db-stack db-compare-form" }, element("p", { class: "db-quiet", text: T.about }),
                element("div", { class: "db-field" }, element("span", { class: "db-label", text: T.models }), this.chosen, element("div", { class: "db-row" }, this.addRun, this.addFile), this.pathRow),
                element("div", { class: "db-compare-fields" }, field(T.base, this.base), element("div", { class: "db-row" }, field(T.seeds, this.count), field(T.firstSeed, this.seed)), field(T.name, this.name, T.nameHelp)),
                field(T.prompts, this.prompts, T.promptsHelp),
                element("div", { class: "db-row" }, this.type, this.word, button(T.guide, () => this.#takePrompts(this.#guidePrompts()), { class: "db-small" }), this.own),
                element("div", { class: "db-row" }, this.start, this.total),
            ),
        );
    }

    /** Fetches what may be chosen; called when the view is shown. */
    async offer() {
        const { runs = [] } = await api.get(["runs"], {}, 30_000);
        this.known = new Map(runs.filter((one) => one.step > 0 && one.method !== "unconditional" && one.status !== "damaged").slice(0, OFFERED).map((one) => [one.id, one]));
        this.#offerRuns();
        this.#offerFiles();
    }

    #offerRuns() {
        const free = [...this.known.values()].filter((one) => !this.runs.has(one.id));
        const told = (one) => [one.name || one.id, TEXTS.methods[one.method] || one.method, moment(one.created)].join(" · ");
        fill(this.addRun, element("option", { value: "", text: this.known.size ? T.addRun : T.noRuns }), free.map((one) => element("option", { value: one.id, text: told(one) })));
    }

    /** The WebUI's checkpoints, LoRAs, embeddings and hypernetworks. */
    #offerFiles() {
        const { bases = [], files = {}, restricted } = this.app.host;
        this.files = [
            ...bases.map((one) => ({ ...one, kind: "checkpoint" })), ...Object.entries(files).flatMap(([kind, list]) => list.map((one) => ({ ...one, kind }))),
        ];
        fill(
            this.addFile, element("option", { value: "", text: this.files.length || !restricted ? T.addFile : T.noFiles }),
            this.files.map((one) => element("option", { value: one.path, text: one.title })), restricted ? null : element("option", { value: OTHER, text: T.path }),
        );
        const { value } = this.base;
        fill(this.base, element("option", { value: "", text: this.runs.size ? T.baseOfRun : T.baseCurrent }), bases.map((one) => element("option", { value: one.path, text: one.title })));
        this.base.value = [...this.base.options].some((one) => one.value === value) ? value : "";
    }

    /** Begins a comparison with a run's models. */
    async take(run) {
        this.element.open = true;
        for (const id of [...this.runs.keys()]) this.#drop(id);
        this.others.splice(0).forEach((one) => one.element.remove());
        await this.offer();
        this.prompts.value = "";
        await this.#add(run);
    }

    #addRun(id) {
        const run = this.known?.get(id);
        this.addRun.value = "";
        if (run) doing(this.app, null, () => this.#add(run));
    }

    async #add(run) {
        const [{ artifacts = [] }, config] = await Promise.all([api.get(["runs", run.id, "artifacts"]), api.get(["runs", run.id, "config"])]);
        if (this.runs.has(run.id)) return;
        const rows = artifacts.map((artifact) => {
            const tick = element("input", { type: "checkbox", checked: true, on: { change: () => this.#refresh() } });
            return { artifact, tick, weights: WEIGHED.includes(artifact.kind) ? this.#weights(artifact.file) : null };
        });
        const name = run.name || run.id;
        const box = element(
            "fieldset", { class: "db-compare-run" },
            element("legend", { class: "db-row" }, element("b", { text: name }), element("span", { class: "db-quiet", text: TEXTS.methods[run.method] || run.method }), this.#cross(name, () => this.#drop(run.id))),
            element("div", { class: "db-row" }, rows.map((row) => element(
                "span", { class: "db-choice" }, element("label", { class: "db-row" }, row.tick, element("span", { title: row.artifact.file }, phrase(T.step, { step: number(row.artifact.step) }))), row.weights ? [element("span", { class: "db-quiet", text: T.weights }), row.weights] : null,
            ))),
            rows.some((row) => row.weights) ? element("p", { class: "db-quiet", text: T.weightsHelp }) : null,
        );
        this.runs.set(run.id, { run, config, rows, element: box });
        this.chosen.append(box);
        this.#takeConfig(config);
        this.#offerRuns();
        this.#offerFiles();
        this.#refresh();
    }

    #weights(name) {
        return element("input", { type: "text", class: "db-input db-weights", placeholder: "1", title: T.weightsHelp, "aria-label": `${T.weights}: ${name}`, autocomplete: "off", dir: "ltr", on: { input: () => this.#refresh() } });
    }

    #cross(name, remove) {
        const text = plain(T.remove, { name });
        return button("×", remove, { class: "db-chip-close", "aria-label": text, title: text });
    }

    /** The type, word and prompts of a run, unless the user has written some. */
    #takeConfig(config) {
        this.own.hidden = !this.#ownPrompts().length;
        if (this.prompts.value.trim()) return;
        this.type.value = config.subject_type || this.type.value;
        this.word.value = config.placeholder_token || this.app.form.settings.wordOf(config.instance_prompt, config.class_prompt) || "";
        this.#takePrompts(this.#ownPrompts().length ? this.#ownPrompts() : this.#guidePrompts());
    }

    #ownPrompts() {
        return [...new Set([...this.runs.values()].flatMap(({ config }) => config.validation_prompts || []))];
    }

    #guidePrompts() {
        const about = this.app.schema.subject_types.find((one) => one.name === this.type.value);
        return (about?.test_prompts || []).map((text) => text.replace("{word}", this.word.value.trim()).trim());
    }

    #takePrompts(prompts) {
        this.prompts.value = prompts.join("\n");
        this.#refresh();
    }

    #drop(id) {
        this.runs.get(id)?.element.remove();
        this.runs.delete(id);
        this.own.hidden = !this.#ownPrompts().length;
        this.#offerRuns();
        this.#offerFiles();
        this.#refresh();
    }

    #addFile(value) {
        show(this.pathRow, value === OTHER);
        if (value === OTHER) this.path.focus();
        const file = this.files.find((one) => one.path === value);
        if (!file) return;
        this.addFile.value = "";
        this.#addOther(file.path, file.title, file.kind);
    }

    #addPath() {
        const path = this.path.value.trim();
        if (!path) return;
        this.path.value = "";
        this.addFile.value = "";
        show(this.pathRow, false);
        this.#addOther(path, path, "");
    }

    #addOther(path, title, kind) {
        const other = { path, title, weights: kind === "" || WEIGHED.includes(kind) ? this.#weights(title) : null };
        const drop = () => {
            other.element.remove();
            this.others = this.others.filter((one) => one !== other);
            this.#refresh();
        };
        other.element = element("div", { class: "db-row" }, element("span", { class: "db-chip" }, element("span", { text: title }), other.weights ? [element("span", { class: "db-quiet", text: T.weights }), other.weights] : null, this.#cross(title, drop)));
        this.others.push(other);
        this.chosen.append(other.element);
        this.#refresh();
    }

    /** The models as the server wants them, each weight one. */
    #models() {
        const each = (model, weights) => {
            const given = (weights?.value || "").split(/[,;\s]+/).filter(Boolean).map(Number);
            return given.length ? given.map((weight) => ({ ...model, weight })) : [model];
        };
        return [
            ...[...this.runs.values()].flatMap(({ run, rows }) => rows.filter((row) => row.tick.checked).flatMap((row) => each({ run: run.id, artifact: row.artifact.file }, row.weights))),
            ...this.others.flatMap((one) => each({ path: one.path }, one.weights)),
        ];
    }

    #lines() {
        return [...new Set(this.prompts.value.split("\n").map((line) => line.trim()).filter(Boolean))];
    }

    #refresh() {
        const [models, prompts] = [this.#models(), this.#lines()];
        const isGoing = Boolean(this.app.state?.job && !this.app.state.job.automatic);
        this.start.disabled = !models.length || !prompts.length || isGoing;
        if (!models.length || !prompts.length) say(this.total, T.nothing);
        else fill(this.total, phrase(T.count, { count: number((models.length + 1) * prompts.length * (Number(this.count.value) || 0)) }));
    }

    /** Whether something is being drawn decides whether to start. */
    refresh() {
        this.#refresh();
    }

    #start() {
        return doing(this.app, this.start, async () => {
            const wanted = {
                models: this.#models(), base: this.base.value, prompts: this.#lines(), num_images: whole(this.count.value), seed: whole(this.seed.value), name: this.name.value.trim(),
            };
            const made = await api.post(["comparisons"], wanted, 30_000);
            this.name.value = "";
            this.element.open = false;
            this.started(made);
        }, () => this.#refresh());
    }
}

/** A number as the server takes it; what is none goes as it is, so that the server says what is wrong. */
function whole(text) {
    const found = Number(text.trim() || "NaN");
    return Number.isFinite(found) ? found : text;
}
