// Lets a tagger propose captions: choosing and fetching one, what it should say, and what to take of it.

import { api } from "../shared/api.js";
import { button, element, fill, memory, say, show, uniqueId } from "../shared/dom.js";
import { size } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.captioning;
const OTHER = "\u0000other"; // a folder that is named
const LOOKS = 700; // milliseconds between looks at what goes on
const GOING = ["starting", "running"];

export class Tagging {
    /** @param {import("./editor.js").CaptionEditor} editor */
    constructor(editor) {
        this.editor = editor;
        this.known = [];
        this.options = memory.read("tagger", {});
        this.element = this.#build();
        this.element.addEventListener("toggle", () => this.element.open && this.#load());
    }

    #build() {
        const number = (name, text, usual) => this.#field(name, text, { type: "number", min: "0", max: "1", step: "0.05", placeholder: usual, value: this.options[name] ?? "", class: "db-input db-short" });
        const check = (name, text) => {
            this[name] = element("input", { type: "checkbox", checked: Boolean(this.options[name]), on: { change: () => this.#keep() } });
            return element("label", { class: "db-check" }, this[name], text);
        };
        const id = uniqueId("tagger");
        this.choice = element("select", { id, class: "db-input", on: { change: () => this.#show() } });
        this.path = element("input", { type: "text", class: "db-input", "aria-label": T.taggerPath, placeholder: T.taggerPath, spellcheck: "false", dir: "ltr", hidden: true, on: { input: () => this.#show() } });
        this.offer = element("div", { class: "db-stack", hidden: true });
        this.ofTags = element(
            "div", { class: "db-stack" }, number("threshold", T.threshold, "0.35"), number("character_threshold", T.characterThreshold, "0.85"),
            check("ratings", T.ratings), check("no_characters", T.noCharacters), check("underscores", T.underscores),
            this.#field("leave_out", T.leaveOut, { value: this.options.leave_out ?? "" }),
        );
        this.ofSentences = this.#field("begin", T.begin, { value: this.options.begin ?? "", placeholder: "a photo of" });
        const onlyEmpty = check("only_empty", T.onlyEmpty);
        this.start = button(T.propose, () => this.#start(), { class: "db-small" });
        this.stop = button(T.stop, () => this.#stop(), { class: "db-small", hidden: true });
        this.status = element("p", { class: "db-quiet", role: "status" });
        return element(
            "details", { class: "db-group" }, element("summary", { text: T.tagger }),
            element(
                "div", { class: "db-stack db-cap-group" }, element("label", { class: "db-label", for: id, text: T.chooseTagger }), this.choice, this.path, this.offer,
                this.ofTags, this.ofSentences, onlyEmpty, element("div", { class: "db-row" }, this.start, this.stop), this.status,
            ),
        );
    }

    #field(name, text, about) {
        const id = uniqueId("tagger");
        this[name] = element("input", { id, type: "text", class: "db-input", autocomplete: "off", spellcheck: "false", on: { change: () => this.#keep() }, ...about });
        return element("div", { class: "db-field" }, element("label", { class: "db-label", for: id, text }), this[name]);
    }

    #keep() {
        const texts = Object.fromEntries(["threshold", "character_threshold", "leave_out", "begin"].map((name) => [name, this[name].value.trim()]));
        const flags = Object.fromEntries(["ratings", "no_characters", "underscores", "only_empty"].map((name) => [name, this[name].checked]));
        memory.write("tagger", { ...texts, ...flags, tagger: this.choice.value });
    }

    async #load() {
        try {
            const { taggers, may_name: mayName } = await api.get(["taggers"]);
            this.known = taggers;
            const told = (one) => [
                one.name.replace(/^host:/, ""), one.kind === "tags" ? T.kindTags : T.kindSentence,
                one.source === "host" ? T.ofWebui : one.here ? T.here : T.toFetch,
            ].join(" · ");
            const { value } = this.choice;
            fill(this.choice, taggers.map((one) => element("option", { value: one.name, text: told(one) })), mayName ? element("option", { value: OTHER, text: T.taggerFolder }) : null);
            const wanted = value || this.options.tagger || taggers.find((one) => one.here)?.name;
            if ([...this.choice.options].some((one) => one.value === wanted)) this.choice.value = wanted;
            this.#show();
            this.#look();
        } catch (error) {
            this.editor.complain(error);
        }
    }

    get #chosen() {
        return this.known.find((one) => one.name === this.choice.value);
    }

    #show() {
        const chosen = this.#chosen;
        const isOther = this.choice.value === OTHER;
        show(this.path, isOther);
        show(this.ofTags, isOther || (chosen?.kind === "tags" && chosen.source !== "host"));
        show(this.ofSentences, isOther || (chosen?.kind === "sentences" && chosen.source !== "host"));
        const isAbsent = Boolean(chosen) && !chosen.here;
        if (!isAbsent || this.offered !== chosen.name) this.#offer(isAbsent ? chosen : null);
        this.start.disabled = !this.editor.canChange || isAbsent || (isOther && !this.path.value.trim()) || !(chosen || isOther) || this.isGoing;
    }

    // --- fetching one

    #offer(tagger) {
        this.offered = tagger?.name;
        show(this.offer, Boolean(tagger));
        if (!tagger) return;
        fill(
            this.offer, element("p", { class: "db-quiet" }, phrase(T.fetchFrom, { name: tagger.name })),
            element("div", { class: "db-row" }, button(T.aboutFetch, (event) => this.#tellAbout(tagger, event.target), { class: "db-small" })),
        );
    }

    async #tellAbout(tagger, pressed) {
        pressed.disabled = true;
        try {
            const facts = await api.post(["taggers", "about"], { name: tagger.name }, 60_000);
            fill(
                this.offer, element("p", { class: "db-quiet" }, phrase(T.fetchFrom, { name: tagger.name })),
                element("p", { class: "db-quiet" }, phrase(T.licence, { licence: facts.licence || T.unknownLicence })),
                facts.files.filter((one) => one.sha256).map((one) => element("p", { class: "db-quiet db-cap-hash" }, phrase(T.hash, { file: one.name, hash: one.sha256 }))),
                element("div", { class: "db-row" }, button(plain(T.fetch, { size: size(facts.size) }), (event) => this.#fetch(tagger, event.target), { class: "db-small db-primary" })),
            );
        } catch (error) {
            this.editor.complain(error);
            pressed.disabled = false;
        }
    }

    async #fetch(tagger, pressed) {
        pressed.disabled = true;
        try {
            await api.post(["taggers", "fetch"], { name: tagger.name }, 60_000);
            this.#awaitTagger(tagger);
        } catch (error) {
            this.editor.complain(error);
            pressed.disabled = false;
        }
    }

    async #awaitTagger(tagger) {
        if (!this.element.isConnected) return;
        try {
            const { taggers, fetching } = await api.get(["taggers"]);
            const one = fetching.find((each) => each.name === tagger.name);
            if (taggers.find((each) => each.name === tagger.name)?.here) {
                this.offered = "";
                say(this.status, "");
                await this.#load();
                return;
            }
            if (one?.problem) {
                this.editor.complain(one.problem);
                say(this.status, "");
                this.#offer(tagger);
                return;
            }
            fill(this.status, phrase(T.fetching, { name: tagger.name, done: one?.total ? `${Math.floor((100 * one.done) / one.total)} %` : size(one?.done || 0) }));
        } catch {
            // the next look tells
        }
        setTimeout(() => this.#awaitTagger(tagger), LOOKS);
    }

    // --- proposing

    async #start() {
        const number = (field) => (field.value.trim() ? Number(field.value) : null);
        const isTags = !this.ofTags.hidden;
        const options = {
            only_empty: this.only_empty.checked,
            ...(isTags ? {
                threshold: number(this.threshold), character_threshold: number(this.character_threshold), ratings: this.ratings.checked,
                no_characters: this.no_characters.checked, underscores: this.underscores.checked, leave_out: this.leave_out.value.split(",").map((one) => one.trim()).filter(Boolean),
            } : {}),
            ...(this.ofSentences.hidden ? {} : { begin: this.begin.value.trim() }),
        };
        const tagger = this.choice.value === OTHER ? this.path.value.trim() : this.choice.value;
        this.#keep();
        const started = await this.editor.doingInSet((set) => api.post(["captions", "tag"], { set, tagger, options }, 60_000));
        if (started) this.#look();
    }

    async #look() {
        clearTimeout(this.timer);
        const { place } = this.editor;
        if (!this.element.isConnected || !place.isSet) return;
        let job = null;
        try {
            ({ job } = await api.get(["captions", "tag", place.name]));
        } catch {
            this.timer = setTimeout(() => this.#look(), 5 * LOOKS);
            return;
        }
        const isGoing = GOING.includes(job?.state);
        const hasEnded = this.isGoing && !isGoing;
        this.isGoing = isGoing;
        show(this.stop, isGoing);
        if (isGoing) fill(this.status, phrase(T.proposing, { done: job.done, total: job.total || "?" }));
        else if (hasEnded) say(this.status, job?.state === "failed" ? `${T.failed} ${job.problem}` : job?.state === "stopped" ? T.stopped : "");
        this.#show();
        if (hasEnded) await this.editor.load();
        if (isGoing) this.timer = setTimeout(() => this.#look(), LOOKS);
    }

    async #stop() {
        try {
            await api.delete(["job"]);
        } catch {
            // it has ended by itself
        }
    }
}

/** What was proposed, and what to do with it. @param {import("./editor.js").CaptionEditor} editor */
export function proposals(editor) {
    const { tagger, captions } = editor.listing.proposals;
    const take = (mode) => () => editor.take(mode);
    return element(
        "div", { class: "db-banner db-cap-proposals" },
        element("span", {}, phrase(T.proposed, { tagger, count: Object.keys(captions).length })),
        element(
            "div", { class: "db-row" }, button(T.takeEmpty, take("empty"), { class: "db-small db-primary" }), button(T.takeReplace, take("replace"), { class: "db-small" }),
            button(T.takeBefore, take("before"), { class: "db-small" }), button(T.takeAfter, take("after"), { class: "db-small" }),
            button(T.forget, () => editor.forgetProposals(), { class: "db-small" }),
        ),
    );
}
