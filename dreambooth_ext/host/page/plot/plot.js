// A line plot on a canvas: zoom by dragging, wheel, two fingers or keys; logarithmic scale; values under the pointer.

import { button, element, say, show, swatch } from "../shared/dom.js";
import { drawAxes, drawBands, drawDot, drawLine, drawMarks, drawPeaks, placeIn } from "./drawing.js";
import { duration, number } from "../shared/format.js";
import { handle } from "./hands.js";
import { plain } from "../shared/phrase.js";
import { savePicture } from "./picture.js";
import { areApart, axisTicks, logTicks, lowerBound, nearest, smoothed, spanOf, thinned, withLevels } from "./series.js";
import { TEXTS } from "../shared/texts.js";

export const COLOURS = ["--db-line-1", "--db-line-2", "--db-line-3", "--db-line-4"];
const T = TEXTS.plot;
const EDGE = { left: 58, right: 12, top: 12, bottom: 26 }; // pixels around the curves
const LEAST = 4; // steps or seconds that a zoomed view shows
const CLOSE = 5; // pixels from a mark within which the read-out tells of it
const LETTER = 15; // pixels between the numbers beside the axis

export class Plot {
    /**
     * @param {{title: string, file: string, about?: string, raw?: boolean, levels?: boolean, onLook?: function}} about `file`:
     *     what its picture is called; `about`: what is said below it; `raw`: also draw the values before
     *     smoothing, faintly; `levels`: the axis begins at 0 and names the values where the lines are; `onLook(from, to)` is
     *     called with the range that the user zooms in on
     */
    constructor({ title, file, about = "", raw = false, levels = false, onLook = () => {} }) {
        Object.assign(this, { title, file, about, raw, levels, onLook });
        this.series = [];
        this.marks = [];
        this.bands = [];
        this.name = ""; // of the run, for its picture
        this.weight = 0;
        this.logarithmic = false;
        this.isTime = false; // else the horizontal axis has steps
        this.range = null; // [from, to] that is seen; null: everything
        this.pointer = null; // x in pixels
        this.element = this.#build();
        this.hands = handle(this);
        new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    /**
     * @param {object[]} series each `{name, xs, ys}` with rising xs, and perhaps `steps` at these; `spans`: how many steps
     *     each point stands for, with the extremes `low` and `high` of these and their mean in `ys`; `steady`: never
     *     smoothed; `colour`, a variable's name; `dash`
     * @param {{kind: string, x: number}[]} [marks] "save", "preview", "resume"
     * @param {{from: number, to: number, colour: string, text: string}[]} [bands] parts of the axis that are shaded
     */
    set(series, marks = this.marks, bands = this.bands) {
        this.marks = marks;
        this.bands = bands;
        this.series = series.map((one) => ({ ...one, soft: one.steady ? one.ys : smoothed(one.ys, this.weight, one.spans) }));
        this.draw();
    }

    /** @param {number} weight of the past in the average, 0 to 0.99 */
    smooth(weight) {
        this.weight = weight;
        this.set(this.series);
    }

    reset() {
        this.range = null;
        this.draw();
    }

    #build() {
        this.canvas = element("canvas", { class: "db-plot-canvas", tabindex: "0", role: "img", title: T.keys, "aria-label": `${this.title}. ${T.keys}` });
        this.readout = element("div", { class: "db-plot-readout", "aria-live": "off" });
        this.selection = element("div", { class: "db-plot-selection", hidden: true });
        this.legend = element("div", { class: "db-plot-legend" });
        this.cut = element("p", { class: "db-quiet db-plot-cut", hidden: true });
        this.logButton = button(T.log, () => this.toggleLog(), { class: "db-small", "aria-pressed": "false", title: T.logHelp });
        const tools = element(
            "div", { class: "db-plot-tools" },
            this.logButton,
            button("+", () => this.hands.zoom(0.5), { class: "db-small db-square", title: T.zoomIn, "aria-label": T.zoomIn }),
            button("−", () => this.hands.zoom(2), { class: "db-small db-square", title: T.zoomOut, "aria-label": T.zoomOut }),
            (this.resetButton = button(T.reset, () => this.reset(), { class: "db-small" })),
            button("PNG", () => savePicture(this, this.name), { class: "db-small", title: T.picture, "aria-label": T.picture }),
        );
        return element(
            "figure", { class: "db-plot" },
            element("figcaption", { class: "db-plot-head" }, element("span", { class: "db-plot-title", text: this.title }), this.legend, tools),
            element("div", { class: "db-plot-stage", dir: "ltr" }, this.canvas, this.selection, this.readout), this.cut,
            this.about ? element("p", { class: "db-quiet db-plot-cut", text: this.about }) : null,
        );
    }

    toggleLog() {
        this.logarithmic = !this.logarithmic;
        this.logButton.setAttribute("aria-pressed", String(this.logarithmic));
        this.draw();
    }

    // --- what is seen

    /** From the beginning to the end of all that there is, [0, 1] without any. */
    #whole() {
        const lasts = this.series.filter((one) => one.xs.length).map((one) => one.xs[one.xs.length - 1]);
        return [0, lasts.length ? Math.max(...lasts, 1) : 1];
    }

    seen() {
        return this.range || this.#whole();
    }

    look(from, to) {
        const [first, last] = this.#whole();
        const width = Math.min(Math.max(to - from, LEAST), last - first);
        const start = Math.min(Math.max(from, first), last - width);
        this.range = width >= last - first ? null : [start, start + width];
        if (this.range) this.onLook(...this.range);
        this.draw();
    }

    area() {
        const width = Math.max(10, this.canvas.clientWidth - EDGE.left - EDGE.right);
        const height = Math.max(10, this.canvas.clientHeight - EDGE.top - EDGE.bottom);
        return { left: EDGE.left, top: EDGE.top, width, height };
    }

    /** The step or time at a pixel. */
    valueAt(x) {
        const { left, width } = this.area();
        const [from, to] = this.seen();
        return from + ((x - left) / width) * (to - from);
    }

    /** Where the pointer is; null: nowhere. `aloud`: for screen readers, too. */
    point(x, aloud = false) {
        this.readout.setAttribute("aria-live", aloud ? "polite" : "off");
        this.pointer = x;
        this.draw();
    }

    // --- drawing

    /** Draws with the next frame, however often it is asked for. */
    draw() {
        if (this.pending) return;
        this.pending = requestAnimationFrame(() => {
            this.pending = 0;
            if (this.canvas.clientWidth) this.#drawNow();
        });
    }

    #drawNow() {
        const { canvas } = this;
        const ratio = window.devicePixelRatio || 1;
        canvas.width = Math.round(canvas.clientWidth * ratio);
        canvas.height = Math.round(canvas.clientHeight * ratio);
        const pen = canvas.getContext("2d");
        pen.scale(ratio, ratio);
        const { frame, lines, peaks } = this.paint(pen);
        this.#showLegend(lines);
        this.#pointAt(pen, frame, lines);
        this.#tellPeaks(peaks, frame);
        this.resetButton.disabled = !this.range;
    }

    /** The colour of a variable of our style sheet. */
    colour(name) {
        const style = getComputedStyle(this.canvas);
        return style.getPropertyValue(name).trim() || style.color;
    }

    /** Everything but the read-out, at the pen's place. */
    paint(pen) {
        const colour = (name) => this.colour(name);
        const lines = this.visibleLines();
        const frame = { ...this.area(), seen: this.seen(), isTime: this.isTime, logarithmic: this.logarithmic, ...this.#heights(lines) };
        pen.font = `12px ${getComputedStyle(this.canvas).fontFamily}`;
        drawBands(pen, frame, this.bands, colour);
        drawAxes(pen, frame, colour);
        pen.save();
        pen.beginPath();
        pen.rect(frame.left, frame.top, frame.width, frame.height);
        pen.clip();
        for (const line of [...lines].reverse()) drawLine(pen, frame, line, colour(line.colour), this.#showsRaw());
        pen.restore();
        drawMarks(pen, frame, this.marks, colour);
        const peaks = this.#peaks(lines, frame);
        drawPeaks(pen, frame, peaks, colour);
        return { frame, lines, peaks };
    }

    #showsRaw() {
        return this.raw && this.weight > 0;
    }

    /** The curves' part that is seen, one point beyond each edge. */
    visibleLines() {
        const [from, to] = this.seen();
        return this.series.map((one, index) => {
            const begin = Math.max(0, lowerBound(one.xs, from) - 1);
            const end = Math.min(one.xs.length, lowerBound(one.xs, to) + 1);
            return { colour: COLOURS[index % COLOURS.length], ...one, begin, end };
        });
    }

    /** What the vertical axis spans, and its marks. Outliers of the raw values do not flatten the smooth curve. */
    #heights(lines) {
        let values = lines.flatMap((line) => line.soft.slice(line.begin, line.end));
        if (this.#showsRaw()) {
            const cut = (ys) => (line) => (line[ys] || line.ys).slice(line.begin, line.end);
            const raw = lines.flatMap((line) => thinned(line.ys, line.begin, line.end));
            values = values.concat(spanOf(raw, [...lines.flatMap(cut("low")), ...lines.flatMap(cut("high"))]));
        }
        values = values.filter((one) => Number.isFinite(one) && (!this.logarithmic || one > 0));
        let low = values.reduce((a, b) => Math.min(a, b), Infinity);
        let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
        if (!Number.isFinite(low)) [low, high] = this.logarithmic ? [0.1, 1] : [0, 1];
        if (this.logarithmic) return this.#logarithmic(low / 1.15, high * 1.15, lines);
        if (this.levels) return this.#levelled(Math.max(high, 0) * 1.08 || 1, lines);
        const space = (areApart(low, high) ? high - low : Math.abs(high) || 1) * 0.03;
        const marks = axisTicks(low >= 0 ? Math.max(0, low - space) : low - space, high + space);
        return { low: marks[0], high: marks[marks.length - 1], marks };
    }

    #logarithmic(low, high, lines) {
        const frame = { ...this.area(), seen: [0, 1], low, high, logarithmic: true };
        const y = placeIn(frame).y;
        const ends = [high / 1.15, low * 1.15].map((one) => Number(one.toPrecision(3)));
        const important = this.levels ? this.#levelsOf(lines).filter((one) => one > 0) : ends;
        return { low, high, marks: withLevels(logTicks(low, high), important, (a, b) => Math.abs(y(a) - y(b)) < LETTER) };
    }

    /** From 0, with the lines' own values among the marks. */
    #levelled(high, lines) {
        const { height } = this.area();
        const isNear = (a, b) => (Math.abs(a - b) / high) * height < LETTER;
        const marks = withLevels(axisTicks(0, high).filter((one) => one <= high), [0, ...this.#levelsOf(lines)], isNear);
        return { low: 0, high, marks };
    }

    /** Of each line that is seen its last value and its highest. */
    #levelsOf(lines) {
        const found = lines.map((line) => line.soft.slice(line.begin, line.end).filter(Number.isFinite)).filter((ys) => ys.length);
        const highest = found.map((ys) => ys.reduce((a, b) => Math.max(a, b)));
        return [...new Set([...found.map((ys) => ys[ys.length - 1]), ...highest].sort((a, b) => b - a))];
    }

    /** The raw values that lie above the axis: [{x, y, colour}]. */
    #peaks(lines, frame) {
        if (!this.#showsRaw()) return [];
        const [from, to] = frame.seen;
        return lines.filter((line) => !line.steady).flatMap((line) => {
            const highs = line.high || line.ys;
            const found = [];
            for (let i = line.begin; i < line.end; i += 1) {
                const isSeen = line.xs[i] >= from && line.xs[i] <= to;
                if (isSeen && highs[i] > frame.high * (1 + 1e-9)) found.push({ x: line.xs[i], y: highs[i], colour: line.colour });
            }
            return found;
        });
    }

    /** What is said of peaks above the axis. */
    peaksText(peaks, frame) {
        if (!peaks.length) return "";
        const highest = peaks.reduce((most, one) => Math.max(most, one.y), 0);
        return plain(T.peaks, { count: number(peaks.length), top: number(frame.high), highest: number(highest) });
    }

    #tellPeaks(peaks, frame) {
        say(this.cut, this.peaksText(peaks, frame));
        show(this.cut, peaks.length > 0);
    }

    #pointAt(pen, frame, lines) {
        const inside = this.pointer !== null && this.pointer >= frame.left - 4 && this.pointer <= frame.left + frame.width + 4;
        const at = this.valueAt(this.pointer ?? 0);
        const found = lines.map((line) => ({ line, i: nearest(line.xs, at) })).filter((one) => one.i >= 0);
        if (!inside || !found.length) {
            say(this.readout, "");
            return;
        }
        const place = placeIn(frame);
        const [first] = found;
        const x = place.x(first.line.xs[first.i]);
        pen.strokeStyle = this.colour("--db-subdued");
        pen.lineWidth = 1;
        pen.beginPath();
        pen.moveTo(Math.round(x) + 0.5, frame.top);
        pen.lineTo(Math.round(x) + 0.5, frame.top + frame.height);
        pen.stroke();
        for (const { line, i } of found) drawDot(pen, place.x(line.xs[i]), place.y(line.soft[i]), this.colour(line.colour));
        const near = this.marks.filter((mark) => Math.abs(place.x(mark.x) - this.pointer) < CLOSE).map((mark) => T.marks[mark.kind]);
        const texts = [found.map(({ line, i }) => this.#reading(line, i)).join(", "), ...new Set(near)];
        say(this.readout, `${this.#where(first)}: ${texts.join(" · ")}`);
        const isRight = x > frame.left + frame.width / 2;
        this.readout.style.left = isRight ? `${frame.left + 6}px` : "auto";
        this.readout.style.right = isRight ? "auto" : `${EDGE.right + 6}px`;
    }

    #where({ line, i }) {
        const step = line.steps ? line.steps[i] : line.xs[i];
        return this.isTime ? `${duration(line.xs[i])}, ${T.step} ${step}` : `${T.step} ${step}`;
    }

    #reading(line, i) {
        const name = this.series.length > 1 || this.raw ? `${line.name} ` : "";
        const before = this.#showsRaw() && !line.steady ? ` (${number(line.ys[i])})` : "";
        return `${name}${number(line.soft[i])}${before}`;
    }

    /** The kinds of marks that there are, in the legend's order. */
    kinds() {
        return ["save", "preview", "resume"].filter((kind) => this.marks.some((mark) => mark.kind === kind));
    }

    #showLegend(lines) {
        const kinds = this.kinds();
        const key = JSON.stringify([lines.length > 1 ? lines.map((line) => [line.name, line.colour, line.dash]) : "", kinds, this.bands.map((band) => band.text)]);
        if (this.legend.dataset.key === key) return;
        this.legend.dataset.key = key;
        this.legend.replaceChildren();
        for (const line of lines.length > 1 ? lines : []) {
            this.legend.append(element("span", { class: "db-legend-item" }, swatch(line.colour, line.dash ? "db-dashed" : ""), line.name));
        }
        for (const { text, colour } of this.bands) {
            this.legend.append(element("span", { class: "db-legend-item" }, swatch(colour, "db-band"), text));
        }
        for (const kind of kinds) {
            this.legend.append(element("span", { class: "db-legend-item" }, element("span", { class: `db-sign db-sign-${kind}` }), T.marks[kind]));
        }
    }
}
