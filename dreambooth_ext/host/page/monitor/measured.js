// What a run measured of itself on the way, as lines of a plot, and its regions as bands behind them.

import { TEXTS } from "../shared/texts.js";

const T = TEXTS.monitor;
const COLOURS = { learning: "--db-line-2", good: "--db-good", overfitting: "--db-warn", guessed: "--db-warn" };
const LINES = [ // a measurement's number, and how it is drawn
    { name: T.learned, colour: "--db-line-1", value: ({ learned }) => middle(Object.values(learned)) },
    { name: T.held, colour: "--db-line-2", value: ({ held }) => held },
    { name: T.classes, colour: "--db-line-3", value: (event) => event.class },
    { name: T.drift, colour: "--db-line-4", dash: [3, 3], value: ({ drift }) => drift },
];

/** The geometric mean, in which twice and half cancel out. */
function middle(ratios) {
    return Math.exp(ratios.reduce((sum, one) => sum + Math.log(one), 0) / ratios.length);
}

/**
 * @param {object[]} events of the measurements, by step
 * @param {(step: number) => number} place where a step is on the axis
 * @param {{name: string, colour: string}} [run] if there are several: then only what is learned of pictures, in its colour
 */
export function measuredLines(events, place, run) {
    return LINES.slice(0, run ? 2 : LINES.length).flatMap((line, i) => {
        const known = events.filter((event) => Number.isFinite(line.value(event)));
        if (!known.length) return [];
        const steps = known.map((event) => event.step);
        const own = { name: line.name, colour: line.colour, dash: line.dash };
        const drawn = run ? { name: `${run.name}, ${line.name}`, colour: run.colour, dash: i ? [7, 4] : undefined } : own;
        return [{ ...drawn, xs: steps.map(place), steps, ys: known.map(line.value), steady: true }];
    });
}

/** Where it learned, was good and overfitted, as far as the last measurement tells. */
export function regionBands(events, place) {
    const last = events.at(-1);
    if (!last || events.length < 2) return [];
    const { step: end, good, overfitting } = last;
    const kind = last.is_sure ? "overfitting" : "guessed";
    const edges = [[0, "learning"], [good, "good"], [overfitting, kind]].filter(([step]) => Number.isFinite(step) && step < end);
    return edges.map(([step, name], i) => ({
        from: place(step), to: place(edges[i + 1]?.[0] ?? end), colour: COLOURS[name], text: T.regions[name],
    }));
}
