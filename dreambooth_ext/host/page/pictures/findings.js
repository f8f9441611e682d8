// What the picture doctor finds: on each picture's card, and a score for the set. The server looks at pictures one after
// the other; while it does, this asks again.

import { address, api } from "../shared/api.js";
import { element, fill, say, show } from "../shared/dom.js";
import { capital, withRemedy } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.findings;
const AGAIN = 800; // milliseconds between questions while pictures are looked at
const LATER = 10_000; // while the trainer is not ready

export class Findings {
    /** @param {import("../train/settings.js").Settings} settings  @param {{cards: () => Map}} about the cards now */
    constructor(settings, { cards }) {
        Object.assign(this, { settings, cards });
        this.known = new Map(); // by name: {stamp, findings}
        this.extra = {};
        this.status = element("span", { class: "db-quiet", role: "status" });
        this.score = element("span", { class: "db-strong" });
        this.sheet = element("a", { class: "db-link", target: "_blank", rel: "noopener", text: T.sheet });
        this.list = element("ul", { class: "db-warnings" });
        this.reasons = element("ul", { class: "db-quiet" });
        this.why = element("details", {}, element("summary", { text: T.why }), this.reasons);
        this.element = element(
            "section", { class: "db-doctor db-stack", hidden: true, "aria-label": T.title },
            element("div", { class: "db-row" }, this.score, this.status, this.sheet), this.list, this.why,
        );
    }

    /** Looks at the pictures of a place, anew if it, what is trained for or the pictures have changed. */
    look(place, count) {
        const query = { ...place.query, subject_type: this.settings.subjectType, resolution: this.settings.given("resolution") || "" };
        const asked = JSON.stringify(query);
        if (asked !== this.asked) {
            Object.assign(this, { asked, query, after: 0, extra: {} });
            this.known.clear();
            this.#tell({ score: null, set: [], reasons: [], missing: [] });
        }
        show(this.element, Boolean(count && place.query));
        clearTimeout(this.timer);
        if (count && place.query) this.#ask();
    }

    async #ask() {
        const { asked } = this;
        let answer;
        try {
            answer = await api.get(["findings"], { ...this.query, after: this.after }, 60_000);
        } catch (error) {
            if (asked === this.asked) say(this.status, `${T.failed} ${error.message}`);
            return;
        }
        if (asked !== this.asked) return; // the place is another meanwhile
        for (const picture of answer.pictures) this.known.set(picture.name, picture);
        this.after = answer.next;
        this.extra = answer.extra;
        this.#tell(answer);
        for (const card of this.cards().values()) this.mark(card);
        clearTimeout(this.timer);
        const isDone = !answer.trouble && !answer.waiting && (answer.score !== null || !answer.count);
        if (!isDone) this.timer = setTimeout(() => this.#ask(), answer.trouble ? LATER : AGAIN);
    }

    #tell({ score, set, reasons, missing, count = 0, waiting = 0, trouble = "" }) {
        const isKnown = score !== null;
        if (trouble) say(this.status, `${T.later} ${capital(trouble)}`);
        else fill(this.status, waiting ? phrase(T.looking, { done: count - waiting, count }) : null);
        fill(this.score, isKnown ? phrase(T.score, { score }) : null);
        show(this.score, isKnown);
        if (isKnown && !reasons.length) say(this.status, T.good);
        show(this.sheet, isKnown);
        if (isKnown) this.sheet.href = address(["findings", "sheet"], { ...this.query, language: TEXTS.code });
        fill(this.list, set.map((one) => element("li", { text: sentence(one) })));
        show(this.list, set.length > 0);
        fill(this.reasons, reasons.map(({ text }) => element("li", { text })), missing.map(({ text }) => element("li", { text: `${T.missing} ${text}` })));
        show(this.why, reasons.length + missing.length > 0);
    }

    /** Shows on a card what is known of its picture: the kind, and opened, what is wrong and what to do. */
    mark(card) {
        const known = this.known.get(card.name);
        const isNow = known && known.stamp === card.picture.stamp;
        const findings = isNow ? [...known.findings, ...(this.extra[card.name] || [])] : [];
        const said = JSON.stringify(findings);
        if (card.findings.dataset.said === said) return; // what is open stays open
        card.findings.dataset.said = said;
        fill(card.findings, findings.map((one) => element(
            "details", { class: `db-finding db-finding-${one.severity}`, on: { toggle: intoView } },
            element("summary", { text: one.label, title: sentence(one) }), element("p", { text: sentence(one) }),
        )));
    }
}

/** The cards scroll in a place of their own, which would cut off what is opened at its end. */
function intoView({ target }) {
    if (target.open) target.scrollIntoView({ block: "nearest" });
}

/** As sentences: messages go on from a picture's name elsewhere. */
function sentence(problem) {
    return capital(withRemedy(problem));
}
