// One download: what is behind its link, how far it is, and what can be done with it.

import { element, say } from "../shared/dom.js";
import { capital, duration, size, withRemedy } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const BEFORE = 8; // seconds over which the speed is measured

/** What of it goes on, without the numbers that change every second. */
export function signature(one) {
    return JSON.stringify({ ...one, done: null, of: null });
}

/** The rows of what is known, as <dt> and <dd>. */
export function factRows(facts) {
    const T = TEXTS.download;
    const short = facts.sha256 ? element("code", { title: facts.sha256, text: `${facts.sha256.slice(0, 16)}…` }) : T.unknown;
    const rows = [
        [T.facts.name, facts.name],
        [T.facts.from, [facts.site, facts.title].filter(Boolean).join(" · ")],
        [T.facts.size, Number.isFinite(facts.size) ? size(facts.size) : T.unknown],
        [T.facts.licence, facts.licence || T.unknown],
        [T.facts.family, facts.family || T.unknown],
        [T.facts.kind, T.kinds[facts.kind] || T.unknown],
        [T.facts.hash, short],
        facts.kind === "diffusers" ? null : [T.facts.folder, facts.folder],
    ];
    return rows.filter(Boolean).flatMap(([name, told]) => [element("dt", { text: name }), element("dd", {}, told)]);
}

/** What else is to be known before agreeing, as paragraphs. */
export function remarks(facts) {
    const T = TEXTS.download;
    const warn = (content) => element("p", { class: "db-warn-text" }, content);
    const quiet = (content) => element("p", { class: "db-quiet" }, content);
    return [
        facts.has_room ? null : element("p", { class: "db-problem" }, phrase(T.noRoom, { free: size(facts.free) })),
        facts.kind && !["checkpoint", "diffusers"].includes(facts.kind) ? warn(T.noBase) : null,
        facts.kind === "diffusers" ? quiet(T.diffusersNote) : null,
        facts.new_name ? warn(phrase(T.otherName, { name: facts.new_name })) : null,
        facts.received ? quiet(phrase(T.here, { size: size(facts.received) })) : null,
        ...(facts.notes || []).map((note) => quiet(note.message)),
    ];
}

/** A bar with bytes, speed and the time left. */
export class Bar {
    constructor(label) {
        this.bar = element("progress", { class: "db-progress", max: "1", "aria-label": label });
        this.text = element("p", { class: "db-quiet" });
        this.element = element("div", { class: "db-download-bar" }, this.bar, this.text);
        this.seen = []; // [time, bytes]
    }

    update({ done, of, state }, now = Date.now() / 1000) {
        const T = TEXTS.download;
        if (of) this.bar.value = Math.min(1, done / of);
        else this.bar.removeAttribute("value");
        if (state !== "running") {
            say(this.text, [T.paused, of ? plain(T.progress, { done: size(done), total: size(of) }) : size(done)].join(" · "));
            return;
        }
        if (this.seen.length && this.seen.at(-1)[1] > done) this.seen = [];
        this.seen.push([now, done]);
        while (this.seen.length > 2 && now - this.seen[0][0] > BEFORE) this.seen.shift();
        const rate = (done - this.seen[0][1]) / (now - this.seen[0][0] || Infinity);
        if (of && done >= of) say(this.text, T.checking);
        else if (!done) say(this.text, T.starting);
        else say(this.text, [
            of ? plain(T.progress, { done: size(done), total: size(of) }) : size(done),
            rate > 0 ? `${size(rate)}/s` : "",
            rate > 0 && of ? plain(T.left, { time: duration((of - done) / rate) }) : "",
        ].filter(Boolean).join(" · "));
    }
}

/** Shows an error of a download. */
export function trouble(problem) {
    if (!problem) return null;
    return element("p", { class: "db-problem", role: "alert", text: capital(withRemedy(problem)) });
}

