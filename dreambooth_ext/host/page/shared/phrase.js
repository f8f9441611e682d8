// Builds sentences with values in them, in parts, so that each text stays whole for a localisation to translate.

import { element } from "./dom.js";
import { MIRRORED } from "./texts.js";

/**
 * "{count} pictures" and {count: 12} -> [<span>12</span>, " pictures"]. A value may be an element, too.
 * @param {string} sentence
 * @param {Object<string, any>} values
 * @returns {Node[]}
 */
export function phrase(sentence, values) {
    return sentence.split(/(\{\w+\})/).filter(Boolean).map((part) => {
        const name = /^\{(\w+)\}$/.exec(part)?.[1];
        if (!name) return document.createTextNode(part);
        const given = values[name];
        return given instanceof Node ? given : element("span", { class: "db-value", text: given ?? "" });
    });
}

/** The same as plain text. */
export function plain(sentence, values) {
    return sentence.replace(/\{(\w+)\}/g, (_, name) => isolated(values[name] ?? ""));
}

/** A value in a text: "128 × 96" keeps its order among words that run from right to left. */
export function isolated(value) {
    return MIRRORED ? `\u2066${value}\u2069` : value;
}
