// The field for the subject's rare word, and the prompts made from it.

import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";
import { WordCheck } from "../captions/word_check.js";

const DOUBTFUL = new Set(["sks"]); // words in wide use that Stable Diffusion 1.5 has a meaning for

export class Word {
    constructor(settings) {
        this.settings = settings;
        const take = (word) => {
            this.settings.holdWord();
            this.settings.rename(word);
            this.input.value = word;
            this.input.focus();
        };
        this.check = new WordCheck(settings, { judged: () => this.refresh(), take });
        this.element = this.#build();
    }

    #build() {
        const id = uniqueId("word");
        this.input = element("input", {
            id, type: "text", class: "db-input db-word", autocomplete: "off", autocapitalize: "off", spellcheck: "false", placeholder: TEXTS.train.wordExample,
            "aria-describedby": `${id}_advice`, maxlength: "60",
            on: { focus: () => this.settings.holdWord(), input: () => this.settings.rename(this.input.value) },
        });
        this.advice = element("p", { class: "db-advice", id: `${id}_advice`, "aria-live": "polite" });
        this.prompt = element("input", {
            type: "text", class: "db-input", "aria-label": TEXTS.train.prompt, autocomplete: "off", hidden: true,
            on: { input: () => this.settings.give("instance_prompt", this.prompt.value.trim() || undefined) },
        });
        this.promptShown = element("p", { class: "db-quiet db-prompt" });
        this.promptButton = button(TEXTS.train.changePrompt, () => (this.#editPrompt(), this.prompt.focus()), { class: "db-small" });
        this.promptRow = element("div", { class: "db-row" }, this.promptShown, this.promptButton);
        const label = element("label", { class: "db-hidden", for: id, text: TEXTS.train.wordTitle });
        return element("div", { class: "db-stack" }, label, this.input, this.advice, this.check.element, this.promptRow, this.prompt);
    }

    #editPrompt(open = this.prompt.hidden) {
        if (!open) this.settings.give("instance_prompt", undefined);
        show(this.prompt, open);
        say(this.promptButton, open ? TEXTS.train.ownPromptOff : TEXTS.train.changePrompt);
        if (open) this.prompt.value = this.settings.given("instance_prompt") || this.settings.prompts().instance;
    }

    /** The field to type in: the prompt, if the user writes it. */
    get control() {
        return this.prompt.hidden ? this.input : this.prompt;
    }

    refresh() {
        if (document.activeElement !== this.input) this.input.value = this.settings.state.word;
        this.#showAdvice();
        this.#showPrompt();
    }

    #showAdvice() {
        const { settings } = this;
        const { word } = settings;
        const needed = settings.bindsWord || settings.teachesWord;
        this.input.disabled = !needed;
        const problem = word ? settings.wordProblem(word) : "";
        const told = problem ? null : this.check.answer; // what the base's vocabulary says, once it is known
        const isDoubtful = told ? told.level !== "good" : DOUBTFUL.has(word.toLowerCase());
        this.check.refresh(needed, !problem);
        this.advice.className = `db-advice ${word && needed && !isDoubtful ? (problem ? "db-bad" : "db-good") : ""}`;
        if (!needed) say(this.advice, TEXTS.train.noWord);
        else if (!word) this.#adviseWithoutWord();
        else if (problem) fill(this.advice, phrase(TEXTS.train.badWord, { word, problem: document.createTextNode(problem) }), " ", settings.schema.identifier.advice);
        else if (told) fill(this.advice, phrase(isDoubtful ? TEXTS.wordCheck.doubtful : TEXTS.wordCheck.good, { word }), " ", told.reason, this.#calledBy());
        else fill(this.advice, phrase(isDoubtful ? TEXTS.train.doubtfulWord : TEXTS.train.goodWord, { word }), this.#calledBy());
    }

    #calledBy() {
        const { settings } = this;
        return settings.teachesWord ? [" ", phrase(TEXTS.train.calledBy, { name: settings.given("name") || settings.suggestedName() })] : null;
    }

    #adviseWithoutWord() {
        const found = this.settings.bindsWord ? this.settings.identifiers() : [];
        if (!this.settings.bindsWord) say(this.advice, TEXTS.train.wordIsName);
        else if (found.length > 1) fill(this.advice, phrase(TEXTS.train.severalWords, { words: found.slice(0, 8).join(", ") }));
        else if (found.length === 1) fill(this.advice, phrase(TEXTS.train.oneFileWord, { word: found[0] }));
        else say(this.advice, TEXTS.train.wordAdvice);
    }

    #showPrompt() {
        const { settings } = this;
        const prompt = settings.given("instance_prompt") || settings.prompts().instance;
        show(this.promptRow, settings.bindsWord && (Boolean(prompt) || !this.prompt.hidden));
        fill(this.promptShown, prompt ? phrase(TEXTS.train.promptIs, { prompt }) : null);
        if (settings.given("instance_prompt") && this.prompt.hidden) this.#editPrompt(true);
        if (settings.given("instance_prompt") && document.activeElement !== this.prompt) this.prompt.value = settings.given("instance_prompt");
    }

    /** Takes the prompt of a run or a file; "" for the one that is made from the word. */
    take(prompt) {
        this.input.value = this.settings.state.word;
        if (prompt) this.#editPrompt(true);
        else show(this.prompt, false);
    }
}
