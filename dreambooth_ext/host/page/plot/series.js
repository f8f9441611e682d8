// Calculations for the curves: smoothing, ranges and ticks.

const DAY = 86_400; // seconds
const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, DAY];
const FAR = 3; // times the height of nearly all values: peaks within are shown whole

/**
 * An exponential moving average that starts at the first value instead of at zero.
 * @param {number[]} values
 * @param {number} weight of earlier values: 0 changes nothing, 0.99 is very smooth
 * @param {number[]} [spans] how many equal values each stands for; default: one
 */
export function smoothed(values, weight, spans) {
    if (weight <= 0) return values;
    const result = new Array(values.length);
    let mean = 0;
    let share = 0; // how much of `mean` is made of values and not of its zero start
    for (let i = 0; i < values.length; i += 1) {
        if (Number.isFinite(values[i])) {
            const past = spans ? weight ** spans[i] : weight;
            mean = past * mean + (1 - past) * values[i];
            share = past * share + (1 - past);
        }
        result[i] = share ? mean / share : NaN;
    }
    return result;
}

/** At most 2000 of the values from `begin` to `end`, evenly chosen: enough for a quantile. */
export function thinned(values, begin, end) {
    const stride = Math.max(1, Math.ceil((end - begin) / 2000));
    const found = [];
    for (let i = begin; i < end; i += stride) found.push(values[i]);
    return found;
}

/** The index of the first of the rising `xs` that is not below `x`. */
export function lowerBound(xs, x) {
    let low = 0;
    let high = xs.length;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (xs[middle] < x) low = middle + 1;
        else high = middle;
    }
    return low;
}

/** The index of the nearest to `x` in the rising `xs`; -1 if they are empty. */
export function nearest(xs, x) {
    if (!xs.length) return -1;
    const after = lowerBound(xs, x);
    if (after === 0) return 0;
    if (after === xs.length) return xs.length - 1;
    return xs[after] - x < x - xs[after - 1] ? after : after - 1;
}

/** Whether two numbers differ by more than rounding errors, so that ticks fit between them. */
export function areApart(low, high) {
    return high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high));
}

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low, high, count) {
    const rough = (high - low) / Math.max(1, count);
    if (!areApart(low, high) || !Number.isFinite(rough)) return [low];
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999);
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) found.push(Number((n * step).toPrecision(12)));
    return found;
}

/** Round numbers that enclose the visible range, so that an axis from the first to the last has a label at each end. */
export function axisTicks(low, high) {
    const [first, second] = ticks(low, high, 5);
    if (second === undefined) return [low];
    const step = second - first;
    const [from, to] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
    return Array.from({ length: to - from + 1 }, (_, i) => Number(((from + i) * step).toPrecision(12)));
}

/** Round times from `low` to `high`, in seconds, about `count` of them. */
export function timeTicks(low, high, count) {
    const rough = (high - low) / Math.max(1, count);
    const step = TIMES.find((one) => one >= rough) || DAY * Math.ceil(rough / DAY);
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high; n += 1) found.push(n * step);
    return found;
}

/**
 * The lines' own levels, and those of the other marks that are not too near to one of them.
 * @param {number[]} marks
 * @param {number[]} levels the more important ones first
 * @param {(a: number, b: number) => boolean} isNear whether two labels would overlap
 */
export function withLevels(marks, levels, isNear) {
    const kept = [];
    for (const one of [...levels, ...marks]) if (kept.every((other) => !isNear(one, other))) kept.push(one);
    return kept.sort((a, b) => a - b);
}

/** At most `most` of the steps, evenly spaced, including the first and the last. */
export function chosenSteps(steps, most) {
    if (steps.length <= most) return steps;
    return Array.from({ length: most }, (_, i) => steps[Math.round((i * (steps.length - 1)) / (most - 1))]);
}

/** The x of a step by linear interpolation between its neighbours; `xs` rise with `steps`. */
export function interpolated(steps, xs, step) {
    const after = lowerBound(steps, step);
    if (!steps.length) return NaN;
    if (after === steps.length) return xs[after - 1];
    if (steps[after] === step) return xs[after];
    const [step0, x0] = after ? [steps[after - 1], xs[after - 1]] : [0, 0];
    return x0 + ((xs[after] - x0) * (step - step0)) / (steps[after] - step0);
}

/**
 * The range of an axis for raw values: all of them, unless a few outliers would flatten the others.
 * @param {number[]} values
 * @param {number[]} extremes of the values that these stand for
 */
export function spanOf(values, extremes) {
    const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
    const ends = extremes.filter(Number.isFinite);
    if (!sorted.length || !ends.length) return [];
    const cut = sorted.length < 100 ? 0 : 0.02; // of few values each one counts
    const low = sorted[Math.floor((sorted.length - 1) * cut)];
    const high = sorted[Math.ceil((sorted.length - 1) * (1 - cut))];
    const far = FAR * (high - low);
    const lowest = ends.reduce((a, b) => Math.min(a, b));
    const highest = ends.reduce((a, b) => Math.max(a, b));
    return [low - lowest > far ? low : lowest, highest - high > far ? high : highest];
}

/** 1, 2 and 5 times the powers of ten, thinned to the powers alone where there are many. */
export function logTicks(low, high) {
    const found = [];
    const first = Math.floor(Math.log10(low));
    const last = Math.ceil(Math.log10(high));
    const factors = last - first > 4 ? [1] : last - first > 2 ? [1, 3] : [1, 2, 5];
    for (let power = first; power <= last; power += 1) {
        for (const factor of factors) {
            const tick = Number((factor * 10 ** power).toPrecision(6));
            if (tick >= low && tick <= high) found.push(tick);
        }
    }
    return found.length > 1 ? found : ticks(low, high, 4);
}
