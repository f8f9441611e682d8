// A caption as it will be trained: coloured by what becomes of its parts, in tokens, and cut where nobody reads on.

import { element } from "../shared/dom.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.captioning;

/** A text in its tokens, each with what it is. @param {{text: string, read: number, tokens: number[][]}} one */
export function coloured(one, spans = []) {
    const letters = [...one.text]; // by code point, as the server counts
    const edges = new Set([0, letters.length, one.read, ...spans.flatMap((span) => [span.from, span.to]), ...one.tokens.map(([start]) => start)]);
    const places = [...edges].filter((place) => place <= letters.length).sort((a, b) => a - b);
    const kindAt = (place) => spans.find((span) => span.from <= place && place < span.to)?.kind || "caption";
    const tokenAt = new Map(one.tokens.map(([start], index) => [start, index]));
    let token = 0;
    const parts = places.slice(0, -1).map((from, index) => {
        token = tokenAt.get(from) ?? token;
        const kind = from >= one.read ? "unread" : kindAt(from);
        return element("span", { class: `db-as db-as-${kind} ${token % 2 ? "db-as-odd" : ""}`.trim(), text: letters.slice(from, places[index + 1]).join("") });
    });
    return element("span", { class: "db-as-text", dir: "auto" }, parts.length ? parts : element("span", { class: "db-quiet", text: T.noText }));
}

/** What the colours mean, for the kinds that occur. */
export function legend(kinds) {
    return element("p", { class: "db-row db-as-legend" }, Object.keys(T.spans).filter((kind) => kinds.has(kind)).map((kind) => element("span", { class: `db-as db-as-${kind}`, text: T.spans[kind] })));
}

/** All that is known of one picture's text. @param {object} one as POST captions/trained gives it */
export function trainedText(one) {
    const isLong = one.count > one.most;
    const facts = [
        phrase(isLong ? T.tooLong : T.tokens, { count: String(one.count), most: String(one.most) }),
        one.captions > 1 ? phrase(T.oneOf, { count: String(one.captions) }) : null,
        one.lines > 1 ? phrase(T.oneLine, { count: String(one.lines) }) : null,
        one.dropped ? phrase(T.dropped, { share: `${Math.round(one.dropped * 1000) / 10} %` }) : null,
        one.is_held ? [document.createTextNode(T.held)] : null,
    ].filter(Boolean);
    return element(
        "div", { class: "db-as-trained" }, coloured(one, one.spans),
        element("p", { class: `db-quiet ${isLong ? "db-warn-text" : ""}`.trim() }, facts.flatMap((fact, index) => (index ? [" · ", ...fact] : fact))),
        one.examples.length ? element(
            "details", { class: "db-as-examples" }, element("summary", { class: "db-quiet", text: T.examples }),
            element("ol", {}, one.examples.map((example) => element("li", {}, coloured(example), " ", element("span", { class: "db-quiet", text: plain(T.tokens, { count: example.count, most: one.most }) })))),
        ) : null,
    );
}
