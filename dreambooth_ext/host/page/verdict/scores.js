// The six scores of a saved model as bars, each with a mark where the base's is; and of all models as lines over the steps.

import { element } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.verdict;
const COLOURS = ["--db-line-1", "--db-line-2", "--db-line-3", "--db-warn", "--db-line-4", "--db-good"];
const KEPT = 0.75; // of what the base can, below which a model has lost something

/** @param {object} model one of a verdict's checkpoints  @param {object} base the same scores of the base */
export function scores(model, base = {}) {
    return element("dl", { class: "db-scores", "aria-label": T.scores }, Object.entries(T.score).filter(([name]) => Number.isFinite(model[name])).map(([name, [label, help]]) => {
        const own = Number.isFinite(base?.[name]) ? base[name] : null;
        const isBad = isWorse(name, model[name], own);
        return element(
            "div", { class: "db-score", title: help, data: { score: name } }, element("dt", { text: label }),
            element(
                "dd", {}, element("span", { class: "db-score-bar", "aria-hidden": "true" }, element("span", { class: isBad ? "db-tight" : "", style: { width: percent(model[name]) } }), own === null ? null : element("i", { style: { "inset-inline-start": percent(own) } })),
                element("b", { class: "db-value", text: model[name].toFixed(2) }), own === null ? null : element("span", { class: "db-quiet" }, T.base, " ", element("span", { class: "db-value", text: own.toFixed(2) })),
            ),
        );
    }));
}

/** Lines of a plot: each score by step, the base at 0. */
export function scoreLines({ checkpoints = [], base = {} }) {
    const all = [{ step: 0, ...base }, ...checkpoints];
    return Object.entries(T.score).map(([name, [label]], i) => {
        const known = all.filter((one) => Number.isFinite(one[name]));
        const steps = known.map((one) => one.step);
        return { name: label, colour: COLOURS[i], dash: name === "copies" ? [7, 4] : undefined, xs: steps, steps, ys: known.map((one) => one[name]), steady: true };
    }).filter((line) => line.xs.length > 1);
}

/** Whether a score is one to look at: the base knows no subject and copies nothing, and all else it can as well as anybody. */
function isWorse(name, value, own) {
    if (name === "copies") return value > 0.34;
    return value < (name === "likeness" || own === null ? 0.5 : KEPT * own);
}

function percent(share) {
    return `${100 * Math.min(1, Math.max(0, share))}%`;
}
