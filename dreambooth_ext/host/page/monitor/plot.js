// A line plot on a canvas: zoom by dragging, wheel, two fingers or keys; logarithmic scale; values under the pointer.

import { button, element, say } from "../shared/dom.js";
import { drawAxes, drawDot, drawLine, placeIn } from "./drawing.js";
import { number } from "../shared/format.js";
import { areApart, lowerBound, nearest, smoothed, spanOf, thinned } from "./series.js";
import { TEXTS } from "../shared/texts.js";

const COLOURS = ["--db-line-1", "--db-line-2", "--db-line-3"];
const EDGE = { left: 58, right: 12, top: 10, bottom: 24 }; // pixels around the curves
const LEAST_STEPS = 4; // that a zoomed view shows

export class Plot {
    /**
     * @param {{title: string, raw?: boolean, onLook?: function}} about `raw`: also draw the values before smoothing,
     *     faintly; `onLook(from, to)` is called with the steps that the user zooms in on
     */
    constructor({ title, raw = false, onLook = () => {} }) {
        this.onLook = onLook;
        this.title = title;
        this.raw = raw;
        this.series = [];
        this.weight = 0;
        this.logarithmic = false;
        this.range = null; // [from, to] in steps; null: everything
        this.pointer = null; // x in pixels
        this.pointers = new Map();
        this.element = this.#build();
        this.#listen();
        new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    /**
     * @param {{name: string, xs: number[], ys: number[], spans?: number[], low?: number[], high?: number[], steady?: boolean}[]}
     *     series with rising xs; `spans`: how many steps each point stands for, with the extremes `low` and `high` of these
     *     and their mean in `ys`; `steady`: never smoothed
     */
    set(series) {
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
        this.canvas = element("canvas", {
            class: "db-plot-canvas", tabindex: "0", role: "img", title: TEXTS.plot.keys, "aria-label": `${this.title}. ${TEXTS.plot.keys}`,
        });
        this.readout = element("div", { class: "db-plot-readout", "aria-live": "off" });
        this.selection = element("div", { class: "db-plot-selection", hidden: true });
        this.legend = element("div", { class: "db-plot-legend" });
        this.logButton = button(TEXTS.plot.log, () => this.#toggleLog(), {
            class: "db-small", "aria-pressed": "false", title: TEXTS.plot.logHelp,
        });
        const tools = element(
            "div", { class: "db-plot-tools" },
            this.logButton,
            button("+", () => this.#zoom(0.5), { class: "db-small db-square", title: TEXTS.plot.zoomIn, "aria-label": TEXTS.plot.zoomIn }),
            button("−", () => this.#zoom(2), { class: "db-small db-square", title: TEXTS.plot.zoomOut, "aria-label": TEXTS.plot.zoomOut }),
            (this.resetButton = button(TEXTS.plot.reset, () => this.reset(), { class: "db-small" })),
        );
        return element(
            "figure", { class: "db-plot" },
            element("figcaption", { class: "db-plot-head" }, element("span", { class: "db-plot-title", text: this.title }), this.legend, tools),
            element("div", { class: "db-plot-stage", dir: "ltr" }, this.canvas, this.selection, this.readout),
        );
    }

    #toggleLog() {
        this.logarithmic = !this.logarithmic;
        this.logButton.setAttribute("aria-pressed", String(this.logarithmic));
        this.draw();
    }

    // --- what is seen ---

    /** The range of all steps; [0, 1] without any. */
    #whole() {
        const firsts = this.series.filter((one) => one.xs.length).map((one) => one.xs[0]);
        const lasts = this.series.filter((one) => one.xs.length).map((one) => one.xs[one.xs.length - 1]);
        if (!firsts.length) return [0, 1];
        const from = Math.min(...firsts);
        return [from, Math.max(...lasts, from + 1)];
    }

    #seen() {
        return this.range || this.#whole();
    }

    #look(from, to) {
        const [first, last] = this.#whole();
        const width = Math.min(Math.max(to - from, LEAST_STEPS), last - first);
        const start = Math.min(Math.max(from, first), last - width);
        this.range = width >= last - first ? null : [start, start + width];
        if (this.range) this.onLook(...this.range);
        this.draw();
    }

    #zoom(factor, share = 0.5) {
        const [from, to] = this.#seen();
        const width = (to - from) * factor;
        const fixed = from + (to - from) * share;
        this.#look(fixed - width * share, fixed + width * (1 - share));
    }

    #pan(share) {
        const [from, to] = this.#seen();
        this.#look(from + (to - from) * share, to + (to - from) * share);
    }

    // --- hands ---

    #listen() {
        const canvas = this.canvas;
        canvas.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
        canvas.addEventListener("keydown", (event) => this.#onKey(event));
        canvas.addEventListener("dblclick", () => this.reset());
        canvas.addEventListener("pointerdown", (event) => this.#onDown(event));
        canvas.addEventListener("pointermove", (event) => this.#onMove(event));
        canvas.addEventListener("pointerup", (event) => this.#onUp(event));
        canvas.addEventListener("pointercancel", (event) => this.#onUp(event, false));
        canvas.addEventListener("pointerleave", () => this.#point(null));
        canvas.addEventListener("blur", () => this.#point(null));
    }

    /** So that the page can still be scrolled, the wheel only zooms after a click on the plot, or with Ctrl. */
    #onWheel(event) {
        if (document.activeElement !== this.canvas && !event.ctrlKey) return;
        event.preventDefault();
        this.#zoom(event.deltaY > 0 ? 1.25 : 0.8, this.#share(event));
    }

    #onKey(event) {
        const steps = { ArrowLeft: -0.2, ArrowRight: 0.2 };
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.key in steps && event.shiftKey) this.#walk(Math.sign(steps[event.key]));
        else if (event.key in steps) this.#pan(steps[event.key]);
        else if (event.key === "+" || event.key === "=") this.#zoom(0.5);
        else if (event.key === "-") this.#zoom(2);
        else if (event.key === "0" || event.key === "Escape") this.reset();
        else if (event.key === "l") this.#toggleLog();
        else return;
        event.preventDefault();
    }

    /** Moves the read-out by one pixel-wide step, for keys. */
    #walk(direction) {
        const { left, width } = this.#area();
        const now = this.pointer ?? left + width;
        this.readout.setAttribute("aria-live", "polite");
        this.#point(Math.min(Math.max(now + (direction * width) / 50, left), left + width));
    }

    #onDown(event) {
        this.canvas.focus({ preventScroll: true });
        this.pointers.set(event.pointerId, event.offsetX);
        if (event.pointerType === "mouse" && event.button !== 0) return;
        this.canvas.setPointerCapture(event.pointerId);
        this.start = { x: event.offsetX, seen: this.#seen(), touch: event.pointerType === "touch", moved: false };
        this.gap = this.#fingers();
    }

    #onMove(event) {
        this.readout.setAttribute("aria-live", "off");
        if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, event.offsetX);
        if (this.pointers.size === 2) this.#pinch();
        else if (this.start && this.start.touch) this.#drag(event);
        else if (this.start) this.#select(event);
        this.#point(event.offsetX);
    }

    #onUp(event, chosen = true) {
        this.pointers.delete(event.pointerId);
        if (this.start && !this.start.touch && this.start.moved && chosen) {
            const [from, to] = [this.start.x, event.offsetX].sort((a, b) => a - b).map((x) => this.#stepAt(x));
            this.#look(from, to);
        }
        this.selection.hidden = true;
        this.start = null;
        if (event.pointerType === "touch") this.#point(null);
    }

    /** The distance of two fingers, and their middle. */
    #fingers() {
        const [a, b] = [...this.pointers.values()];
        return b === undefined ? null : { width: Math.max(20, Math.abs(a - b)), middle: (a + b) / 2 };
    }

    #pinch() {
        const now = this.#fingers();
        if (this.gap) {
            const { left, width } = this.#area();
            this.#zoom(this.gap.width / now.width, Math.min(Math.max((now.middle - left) / width, 0), 1));
        }
        this.gap = now;
        this.start = null;
    }

    #drag(event) {
        const [from, to] = this.start.seen;
        const moved = ((this.start.x - event.offsetX) / this.#area().width) * (to - from);
        this.#look(from + moved, to + moved);
    }

    #select(event) {
        this.start.moved = Math.abs(event.offsetX - this.start.x) > 6;
        this.selection.hidden = !this.start.moved;
        const [from, to] = [this.start.x, event.offsetX].sort((a, b) => a - b);
        this.selection.style.left = `${from}px`;
        this.selection.style.width = `${to - from}px`;
    }

    #point(x) {
        this.pointer = x;
        this.draw();
    }

    // --- drawing ---

    #area() {
        const width = Math.max(10, this.canvas.clientWidth - EDGE.left - EDGE.right);
        const height = Math.max(10, this.canvas.clientHeight - EDGE.top - EDGE.bottom);
        return { left: EDGE.left, top: EDGE.top, width, height };
    }

    #share(event) {
        const { left, width } = this.#area();
        return Math.min(Math.max((event.offsetX - left) / width, 0), 1);
    }

    #stepAt(x) {
        const { left, width } = this.#area();
        const [from, to] = this.#seen();
        return from + ((x - left) / width) * (to - from);
    }

    /** Draws once with the next frame, however often it is called. */
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
        const style = getComputedStyle(canvas);
        const colour = (name) => style.getPropertyValue(name).trim() || style.color;
        const area = this.#area();
        const lines = this.#visible();
        const frame = { ...area, seen: this.#seen(), logarithmic: this.logarithmic, ...this.#heights(lines) };
        pen.font = `12px ${style.fontFamily}`;
        drawAxes(pen, frame, colour);
        pen.save();
        pen.beginPath();
        pen.rect(area.left, area.top, area.width, area.height);
        pen.clip();
        lines.forEach((line) => drawLine(pen, frame, line, colour(line.colour), this.raw && this.weight > 0));
        pen.restore();
        this.#pointAt(pen, frame, lines, colour);
        this.resetButton.disabled = !this.range;
    }

    /** The visible part of the curves, and one point beyond each edge. */
    #visible() {
        const [from, to] = this.#seen();
        return this.series.map((one, index) => {
            const begin = Math.max(0, lowerBound(one.xs, from) - 1);
            const end = Math.min(one.xs.length, lowerBound(one.xs, to) + 1);
            return { ...one, begin, end, colour: COLOURS[index % COLOURS.length] };
        });
    }

    /** The range of the vertical axis. Outliers of the raw values do not flatten the smooth curve. */
    #heights(lines) {
        let values = lines.flatMap((line) => line.soft.slice(line.begin, line.end));
        if (this.raw && this.weight) {
            const cut = (ys) => (line) => (line[ys] || line.ys).slice(line.begin, line.end);
            const raw = lines.flatMap((line) => thinned(line.ys, line.begin, line.end));
            values = values.concat(spanOf(raw, [...lines.flatMap(cut("low")), ...lines.flatMap(cut("high"))]));
        }
        values = values.filter((one) => Number.isFinite(one) && (!this.logarithmic || one > 0));
        let low = values.reduce((a, b) => Math.min(a, b), Infinity);
        let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
        if (!Number.isFinite(low)) [low, high] = this.logarithmic ? [0.1, 1] : [0, 1];
        if (this.logarithmic) return { low: low / 1.15, high: high * 1.15 };
        const space = (areApart(low, high) ? high - low : Math.abs(high) || 1) * 0.06;
        return { low: low >= 0 ? Math.max(0, low - space) : low - space, high: high + space };
    }

    #pointAt(pen, frame, lines, colour) {
        const inside = this.pointer !== null && this.pointer >= frame.left - 4 && this.pointer <= frame.left + frame.width + 4;
        this.#showLegend(lines);
        if (!inside || !lines.some((line) => line.xs.length)) {
            say(this.readout, "");
            return;
        }
        const place = placeIn(frame);
        const step = this.#stepAt(this.pointer);
        const found = lines.map((line) => ({ line, i: nearest(line.xs, step) })).filter((one) => one.i >= 0);
        const x = place.x(found[0].line.xs[found[0].i]);
        pen.strokeStyle = colour("--db-subdued");
        pen.lineWidth = 1;
        pen.beginPath();
        pen.moveTo(Math.round(x) + 0.5, frame.top);
        pen.lineTo(Math.round(x) + 0.5, frame.top + frame.height);
        pen.stroke();
        for (const { line, i } of found) {
            drawDot(pen, place.x(line.xs[i]), place.y(line.soft[i]), colour(line.colour));
        }
        const texts = found.map(({ line, i }) => this.#reading(line, i));
        say(this.readout, `${TEXTS.plot.step} ${found[0].line.xs[found[0].i]}: ${texts.join(", ")}`);
        this.readout.style.left = x > frame.left + frame.width / 2 ? `${frame.left + 6}px` : "auto";
        this.readout.style.right = x > frame.left + frame.width / 2 ? "auto" : `${EDGE.right + 6}px`;
    }

    #reading(line, i) {
        const name = this.series.length > 1 || this.raw ? `${line.name} ` : "";
        const before = this.raw && this.weight ? ` (${number(line.ys[i])})` : "";
        return `${name}${number(line.soft[i])}${before}`;
    }

    #showLegend(lines) {
        const names = lines.length > 1 ? lines.map((line) => line.name).join("\n") : "";
        if (this.legend.dataset.names === names) return;
        this.legend.dataset.names = names;
        this.legend.replaceChildren();
        if (lines.length < 2) return;
        for (const line of lines) {
            const swatch = element("span", { class: "db-swatch", style: { background: `var(${line.colour})` } });
            this.legend.append(element("span", { class: "db-legend-item" }, swatch, line.name));
        }
    }
}
