// The form's values, and their conversion to a run's configuration. Knows the schema and the host, but no elements.

import { memory } from "../shared/dom.js";

const WORD = "{word}"; // in prompts of the schema
const WORDS = /[\p{L}\p{N}]+(?:['-][\p{L}\p{N}]+)*/gu;
const PREVIEW_EVERY = 250; // steps between previews, where the user wants some and says no number
const BLANK = {
    word: "", source: "upload", set: "", folder: "", previews: true, publish: null, intermediate: null, select: "", whileTraining: "", values: {},
};

export class Settings {
    /** @param {object} schema of GET schema */
    constructor(schema) {
        this.schema = schema;
        this.known = new Map(schema.groups.flatMap((group) => group.settings).map((one) => [one.name, one]));
        this.host = { bases: [], current: "" };
        this.uploaded = { folder: "", count: 0, captioned: false, captions: [], names: [] }; // the pictures, as `Pictures` sees them
        this.listeners = [];
        this.state = { ...BLANK, ...memory.read("form", {}) };
        this.state.values = this.#known(this.state.values);
    }

    #known(values) {
        return Object.fromEntries(Object.entries(values || {}).filter(([name]) => this.known.has(name)));
    }

    /** Registers a function that is called after each change with the name of what changed. */
    onChange(listener) {
        this.listeners.push(listener);
    }

    #changed(name) {
        memory.write("form", this.state);
        this.listeners.forEach((listener) => listener(name));
    }

    /** Changes one of the page's own answers: word, source, set, folder, previews, publish, intermediate, select, whileTraining. */
    answer(name, value) {
        if (this.state[name] === value) return;
        this.state[name] = value;
        this.#changed(name);
    }

    /** A setting as the user gave it; undefined if it is left to the guide or the default. */
    given(name) {
        return this.state.values[name];
    }

    /** Gives a setting a value; undefined leaves it out again. */
    give(name, value) {
        if (value === undefined) delete this.state.values[name];
        else this.state.values[name] = value;
        this.#changed(name);
    }

    /** Replaces all settings by those of a preset, a file or an earlier run. */
    replace(values, { keep = [] } = {}) {
        this.state.values = this.#replaced(values, keep);
        this.#changed("*");
    }

    #replaced(values, keep) {
        const kept = keep.filter((name) => name in this.state.values).map((name) => [name, this.state.values[name]]);
        const all = { ...this.#known(values), ...Object.fromEntries(kept) };
        return Object.fromEntries(Object.entries(all).filter(([name, value]) => !this.isDefault(name, value)));
    }

    /**
     * What `replace` would change, in the form's order.
     * @returns {{about: object, from: any, to: any}[]} values as they are given; undefined where a setting is left out
     */
    differences(values, { keep = [] } = {}) {
        const after = this.#replaced(values, keep);
        return [...this.known.values()].map((about) => ({ about, from: this.given(about.name), to: after[about.name] }))
            .filter(({ from, to }) => JSON.stringify(from) !== JSON.stringify(to));
    }

    /** Everything as in the beginning. */
    clear() {
        this.state = { ...BLANK, values: {} };
        this.#changed("*");
    }

    isDefault(name, value) {
        return JSON.stringify(value) === JSON.stringify(this.known.get(name)?.default) || value === null;
    }

    get method() {
        return this.given("method") || this.known.get("method").default;
    }

    get subjectType() {
        return this.given("subject_type") || this.host.options?.subject_type || this.known.get("subject_type").default;
    }

    get subject() {
        return this.schema.subject_types.find((one) => one.name === this.subjectType) || this.schema.subject_types[0];
    }

    get word() {
        return this.state.word.trim();
    }

    get folder() {
        return this.state.source === "folder" ? this.state.folder.trim() : this.uploaded.folder;
    }

    uses(name) {
        const about = this.known.get(name);
        return Boolean(about) && about.methods.includes(this.method);
    }

    /** Whether the form shows a setting: one without effect beside another setting is hidden, unless it was given. */
    shows(name) {
        const [other, ...values] = this.known.get(name)?.goes_with || [];
        const counts = !other || values.includes(this.given(other) ?? this.known.get(other).default);
        return this.uses(name) && (counts || this.given(name) !== undefined);
    }

    /** Whether the method binds a subject to a word, as those that know class pictures do. */
    get bindsWord() {
        return this.uses("class_prompt");
    }

    /** Whether the method trains the word itself, which is then the model's file name. */
    get teachesWord() {
        return this.uses("placeholder_token") && !this.bindsWord;
    }

    /** What is wrong with a word, in a few words; "" if it is a good one. */
    wordProblem(word) {
        const { rules, known_words: knownWords, known_message: message } = this.schema.identifier;
        for (const rule of rules) if (!new RegExp(`^(?:${rule.pattern})$`, "s").test(word)) return rule.message;
        return knownWords.includes(word.toLowerCase()) ? message : "";
    }

    /** The prompts that follow from word, type and captions; "" without a word. */
    prompts() {
        const { subject } = this;
        const { captioned, captions } = this.uploaded;
        const templates = captioned ? subject.prompts_with_captions || subject.prompts : subject.prompts;
        const tell = templates.instance_prompt.includes("[filewords]") && captions.every((text) => text.includes(this.word));
        const filled = (text) => (tell ? "[filewords]" : text.split(WORD).join(this.word)); // captions may say the word
        const instance = this.word && this.bindsWord ? filled(templates.instance_prompt) : "";
        return { instance, ofClass: templates.class_prompt };
    }

    /** The one word of a prompt that can only mean the subject, as in captions.rare_words; "" if there is none. */
    wordOf(prompt, classPrompt = "") {
        const words = (text) => (String(text || "").toLowerCase().match(WORDS) || []);
        const common = new Set([...this.schema.identifier.known_words, ...words(classPrompt), "filewords", "name"]);
        const rare = [...new Set(words(prompt))].filter((word) => !common.has(word));
        if (rare.length !== 1) return "";
        return String(prompt).match(WORDS).find((word) => word.toLowerCase() === rare[0]); // in the prompt's own letters
    }

    /** Changes the word, also in the user's own prompt. */
    rename(word) {
        const given = this.given("instance_prompt");
        const { frame } = this;
        if (given && frame?.includes(WORD) && word.trim()) this.state.values.instance_prompt = frame.split(WORD).join(word.trim());
        this.answer("word", word);
    }

    /** Remembers where the word is in the user's own prompt, before the word changes. */
    holdWord() {
        const { word } = this;
        const isPart = (text, place) => /[\p{L}\p{N}]/u.test(text[place] || "");
        this.frame = !word ? "" : (this.given("instance_prompt") || "").split(word).reduce((before, after) => (
            before + (isPart(before, before.length - 1) || isPart(after, 0) ? word : WORD) + after
        ));
    }

    /** The usual prompt for a word and the subject type. */
    promptFor(word) {
        return this.subject.prompts.instance_prompt.split(WORD).join(word);
    }

    testPrompts() {
        if (!this.bindsWord && !this.teachesWord) return [];
        const words = this.word ? [this.word] : this.bindsWord ? this.identifiers() : [];
        return words.slice(0, 3).flatMap((word) => this.subject.test_prompts
            .slice(0, words.length > 1 ? 2 : 4).map((prompt) => prompt.split(WORD).join(word)));
    }

    /** The subjects that file names such as "sksper (1).jpg" indicate; the server decides. */
    identifiers() {
        const stems = this.uploaded.names.map((name) => name.replace(/\.[^.]*$/, "").replace(/(\s*\(\d+\)|[\s_-]+\d+)$/, "").trim());
        const camera = /^(dcim|dji|dsc|dscf|dscn|gopr|img|imgp|mvimg|p|pict|pxl|sam|vid)$/i;
        return [...new Set(stems)].filter((word) => /[^\W\d_]/.test(word) && !camera.test(word.split(/[\W\d_]+/)[0]));
    }

    suggestedName() {
        const ascii = this.word.replace(/[^A-Za-z0-9_-]+/g, "_").replace(/^[_-]+|[_-]+$/g, "");
        if (ascii && this.teachesWord) return `${ascii.slice(0, 57)}_ti`; // an embedding's name calls it, on every checkpoint
        if (ascii) return `${ascii}_${this.subjectType}`.slice(0, 60);
        return this.state.source === "upload" ? `my_${this.method === "finetune" ? "finetune" : "subjects"}` : "";
    }

    /** The values that this page fills in if the user left them out, by the names of their settings. */
    pageValues() {
        const filled = {};
        const fill = (name, value) => {
            if (value && this.given(name) === undefined && this.uses(name)) filled[name] = value;
        };
        const prompts = this.prompts();
        fill("name", this.suggestedName());
        const isElsewhere = this.given("concepts")?.length || (this.given("train_shards_path_or_url") && this.uses("train_shards_path_or_url"));
        fill("instance_data_dir", isElsewhere ? "" : this.folder);
        fill("train_data_dir", this.given("dataset_name") ? "" : this.folder);
        fill("placeholder_token", this.teachesWord ? this.word : "");
        fill("instance_prompt", this.given("concepts")?.length ? "" : prompts.instance);
        if (this.given("with_prior_preservation") === true) fill("class_prompt", prompts.ofClass);
        fill("validation_prompts", this.testPrompts().length ? this.testPrompts() : undefined);
        const drawn = this.given("validation_prompts") || filled.validation_prompts;
        if (this.state.previews && (drawn?.length || !this.uses("validation_prompts"))) fill("validation_steps", PREVIEW_EVERY);
        return filled;
    }

    /** The configuration as POST check and POST runs accept it. */
    config() {
        const given = Object.entries(this.state.values).filter(([name]) => this.uses(name));
        const type = this.uses("subject_type") ? { subject_type: this.subjectType } : {};
        return { method: this.method, ...type, ...Object.fromEntries(given), ...this.pageValues() };
    }

    /** The content to save in a file. */
    saved() {
        const config = this.config();
        if (this.state.source === "upload") ["instance_data_dir", "train_data_dir"].forEach((name) => delete config[name]);
        return config;
    }

    /** The run's options as the user chose them, else as the host's options say. */
    wishes(options) {
        const publish = this.state.publish ?? options.publish ?? true;
        return {
            publish,
            intermediate: publish && Boolean(this.state.intermediate ?? options.intermediate),
            select: publish ? this.state.select || options.select || "final" : "never",
            while_training: this.state.whileTraining || options.while_training || "refuse",
        };
    }
}
