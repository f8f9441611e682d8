// Below the word's field: into which tokens of the base it falls, better words, and what the base draws for it.

import { address, api } from "../shared/api.js";
import { button, debounced, element, fill, say, show } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.wordCheck;
const SUGGESTED = 8;
const PAUSE = 350; // milliseconds after the last letter
const LOOKS = 1000; // milliseconds between looks at what is being drawn

export class WordCheck {
    /**
     * @param {import("../train/settings.js").Settings} settings
     * @param {{judged: () => void, take: (word: string) => void}} about `judged`: there is an answer; `take`: another word
     */
    constructor(settings, { judged, take }) {
        Object.assign(this, { settings, judged, take });
        this.answers = new Map(); // of the server, by base and word
        this.tokens = element("p", { class: "db-word-tokens db-row", hidden: true });
        this.better = element("div", { class: "db-row db-word-better", hidden: true });
        this.draw = button(T.draw, () => this.#draw(), { class: "db-small", title: T.drawHelp });
        this.stop = button(T.stop, () => this.#stop(), { class: "db-small", hidden: true });
        this.status = element("span", { class: "db-quiet", role: "status" });
        this.pictures = element("div", { class: "db-word-pictures", hidden: true });
        this.drawRow = element("div", { class: "db-row", hidden: true }, this.draw, this.stop, this.status);
        this.element = element("div", { class: "db-stack db-word-check" }, this.tokens, this.better, this.drawRow, this.pictures);
        this.ask = debounced(() => this.#ask(), PAUSE);
    }

    get #base() {
        return this.settings.given("base_model") || "";
    }

    get #key() {
        return `${this.#base || this.settings.host.current || ""}\n${this.settings.word}`;
    }

    /** What the server said of the word that is typed now; undefined until it has. */
    get answer() {
        return this.answers.get(this.#key);
    }

    /** @param {boolean} isNeeded whether the method uses a word  @param {boolean} isFit whether it may be one at all */
    refresh(isNeeded, isFit) {
        this.isOn = isNeeded && isFit && Boolean(this.settings.word);
        const { answer } = this;
        if (this.isOn && !answer) this.ask();
        show(this.tokens, this.isOn && answer?.tokens.length);
        show(this.better, isNeeded && this.settings.word && answer && answer.level !== "good");
        show(this.drawRow, this.isOn && answer);
        this.#showDrawn(this.isOn ? answer : null);
        if (!answer || answer === this.shown) return;
        this.shown = answer;
        fill(this.tokens, element("span", { class: "db-quiet", text: T.tokens }), answer.tokens.map((one) => element(
            "span", { class: `db-word-token ${one.rare ? "" : "db-word-common"}`, text: one.text, title: plain(one.rare ? T.rare : T.common, { number: one.number }) },
        )));
        fill(this.better, element("span", { class: "db-quiet", text: T.better }), answer.suggestions.slice(0, SUGGESTED).map((word) => (
            button(word, () => this.take(word), { class: "db-small", "aria-label": plain(T.take, { word }) })
        )));
    }

    async #ask() {
        if (!this.isOn || this.answer) return;
        const key = this.#key;
        try {
            this.answers.set(key, await api.post(["word"], { word: this.settings.word, base_model: this.#base }));
        } catch {
            return; // the field's own rules have been told, and training checks again
        }
        this.judged();
    }

    // --- what the base draws

    #showDrawn(answer) {
        const drawn = answer?.drawn;
        const isGoing = drawn?.state === "drawing";
        show(this.stop, isGoing);
        this.draw.disabled = isGoing;
        show(this.pictures, drawn?.pictures.length);
        if (!drawn || drawn === this.shownDrawn) return;
        this.shownDrawn = drawn;
        if (isGoing) say(this.status, plain(T.drawing, { done: drawn.done, total: drawn.total }));
        else if (drawn.state === "failed") say(this.status, `${T.failed} ${drawn.problem}`);
        else say(this.status, drawn.state === "done" || drawn.pictures.length ? plain(T.drawn, { word: answer.word }) : "");
        fill(this.pictures, drawn.pictures.map((file, index) => element("img", {
            src: address(["word", "drawn", drawn.id, file], { size: 256, t: isGoing ? drawn.done : drawn.state }), alt: plain(T.picture, { word: answer.word, number: index + 1 }),
        })));
        if (isGoing) setTimeout(() => this.#look(this.#key), LOOKS);
    }

    async #draw() {
        const key = this.#key;
        this.draw.disabled = true;
        say(this.status, "");
        try {
            const drawn = await api.post(["word", "draw"], { word: this.settings.word, base_model: this.#base }, 30_000);
            this.answers.set(key, { ...this.answers.get(key), drawn });
        } catch (error) {
            this.draw.disabled = false;
            say(this.status, withRemedy(error));
            return;
        }
        this.judged();
    }

    async #look(key) {
        const [base, word] = key.split("\n");
        try {
            this.answers.set(key, await api.post(["word"], { word, base_model: base }));
        } catch {
            setTimeout(() => this.#look(key), 3 * LOOKS);
            return;
        }
        if (key === this.#key) this.judged();
        else if (this.answers.get(key).drawn.state === "drawing") setTimeout(() => this.#look(key), LOOKS);
    }

    async #stop() {
        try {
            await api.delete(["job"]);
        } catch {
            // it has ended by itself
        }
    }
}
