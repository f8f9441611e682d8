// The six scores of a saved model as bars, each with a mark where the base's is.

import { element } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.verdict;
const LOWER_IS_BETTER = ["copies"];

/** @param {object} model one of a verdict's checkpoints  @param {object} base the same scores of the base */
export function scores(model, base = {}) {
    return element("dl", { class: "db-scores", "aria-label": T.scores }, Object.entries(T.score).filter(([name]) => Number.isFinite(model[name])).map(([name, [label, help]]) => {
        const isBad = LOWER_IS_BETTER.includes(name) ? model[name] > 0.5 : model[name] < 0.5;
        const own = Number.isFinite(base?.[name]) ? base[name] : null;
        return element(
            "div", { class: "db-score", title: help, data: { score: name } }, element("dt", { text: label }),
            element(
                "dd", {}, element("span", { class: "db-score-bar", "aria-hidden": "true" }, element("span", { class: isBad ? "db-tight" : "", style: { width: percent(model[name]) } }), own === null ? null : element("i", { style: { "inset-inline-start": percent(own) } })),
                element("b", { class: "db-value", text: model[name].toFixed(2) }), own === null ? null : element("span", { class: "db-quiet" }, T.base, " ", element("span", { class: "db-value", text: own.toFixed(2) })),
            ),
        );
    }));
}

function percent(share) {
    return `${100 * Math.min(1, Math.max(0, share))}%`;
}
