// Draws axes, lines and marks on a canvas. A `frame` describes the area: {left, top, width, height} in pixels, the
// visible range of the horizontal axis (`seen`; `isTime`: seconds, else steps), the values from `low` to `high` with
// their `marks`, and whether these are `logarithmic`.

import { duration, number } from "../shared/format.js";
import { ticks, timeTicks } from "./series.js";

const SHADE = 0.13; // opacity of a band
const APART = 7; // pixels between two marks of one kind

/** The position of an x and a value, in pixels. */
export function placeIn(frame) {
    const [from, to] = frame.seen;
    const scale = frame.logarithmic ? (y) => Math.log(Math.max(y, frame.low / 10)) : (y) => y;
    const [low, high] = [scale(frame.low), scale(frame.high)];
    return {
        x: (x) => frame.left + ((x - from) / (to - from || 1)) * frame.width,
        y: (value) => frame.top + frame.height - ((scale(value) - low) / (high - low || 1)) * frame.height,
    };
}

/** Horizontal lines with their values, and steps or times below. */
export function drawAxes(pen, frame, colour) {
    const place = placeIn(frame);
    pen.strokeStyle = colour("--db-grid");
    pen.fillStyle = colour("--db-subdued");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const mark of frame.marks) {
        const y = Math.round(place.y(mark)) + 0.5;
        if (y < frame.top - 1 || y > frame.top + frame.height + 1) continue;
        pen.beginPath();
        pen.moveTo(frame.left, y);
        pen.lineTo(frame.left + frame.width, y);
        pen.stroke();
        pen.fillText(number(mark), frame.left - 8, y);
    }
    pen.textBaseline = "top";
    pen.textAlign = "center";
    const count = Math.max(2, frame.width / 90);
    const below = frame.isTime ? timeTicks(...frame.seen, count) : ticks(...frame.seen, count).filter(Number.isInteger);
    for (const mark of below) {
        const text = frame.isTime ? duration(mark) : number(mark);
        const half = pen.measureText(text).width / 2;
        const x = Math.min(Math.max(place.x(mark), frame.left), frame.left + frame.width + 10 - half);
        pen.fillText(text, x, frame.top + frame.height + 9);
    }
}

/** Shades parts of the horizontal axis, with their names at the top where there is space. */
export function drawBands(pen, frame, bands, colour) {
    const place = placeIn(frame);
    const inside = (x) => Math.min(Math.max(place.x(x), frame.left), frame.left + frame.width);
    for (const { from, to, colour: name, text } of bands) {
        const [left, right] = [inside(from), inside(to)];
        if (right <= left) continue;
        pen.fillStyle = colour(name);
        pen.globalAlpha = SHADE;
        pen.fillRect(left, frame.top, right - left, frame.height);
        pen.globalAlpha = 1;
        pen.textBaseline = "top";
        pen.textAlign = "center";
        if (pen.measureText(text).width + 8 < right - left) pen.fillText(text, (left + right) / 2, frame.top + 3);
    }
}

/** Draws a line's `soft` values; `withRaw`: also its `ys`, faintly. Only between `begin` and `end`. */
export function drawLine(pen, frame, line, colour, withRaw) {
    const place = placeIn(frame);
    pen.strokeStyle = colour;
    pen.lineJoin = "round";
    if (withRaw && !line.steady) {
        pen.globalAlpha = line.faint ?? 0.28;
        pen.lineWidth = 1;
        trace(pen, place, line, line.low || line.ys, line.high || line.ys);
        pen.globalAlpha = 1;
    }
    pen.lineWidth = 2;
    pen.setLineDash(line.dash || []);
    trace(pen, place, line, line.soft);
    pen.setLineDash([]);
    if (line.end - line.begin === 1) drawDot(pen, place.x(line.xs[line.begin]), place.y(line.soft[line.begin]), colour);
}

export function drawDot(pen, x, y, colour) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(x, y, 3.5, 0, 7);
    pen.fill();
}

/** Draws saves and previews on the lower axis, and a vertical line at each step from which the run was resumed. */
export function drawMarks(pen, frame, marks, colour) {
    const place = placeIn(frame);
    const last = {};
    for (const { kind, x } of marks) {
        const at = Math.round(place.x(x)) + 0.5;
        const isSeen = at >= frame.left - 1 && at <= frame.left + frame.width + 1;
        if (!isSeen || Math.abs(at - (last[kind] ?? -APART)) < APART) continue;
        last[kind] = at;
        if (kind === "resume") drawResume(pen, frame, at, colour);
        else drawSign(pen, kind, at, frame.top + frame.height, colour);
    }
}

function drawResume(pen, frame, x, colour) {
    pen.strokeStyle = colour("--db-subdued");
    pen.lineWidth = 1;
    pen.setLineDash([4, 4]);
    pen.beginPath();
    pen.moveTo(x, frame.top);
    pen.lineTo(x, frame.top + frame.height);
    pen.stroke();
    pen.setLineDash([]);
}

/** Draws a diamond for a save, a ring for previews or a dashed line for a resume, centred on a point. */
export function drawSign(pen, kind, x, y, colour) {
    pen.lineWidth = 1.5;
    pen.strokeStyle = pen.fillStyle = colour("--db-text");
    pen.beginPath();
    if (kind === "save") {
        for (const [dx, dy] of [[0, -5], [5, 0], [0, 5], [-5, 0]]) pen.lineTo(x + dx, y + dy);
        pen.fill();
    } else if (kind === "preview") {
        pen.arc(x, y, 3, 0, 7);
        pen.fillStyle = colour("--db-card");
        pen.fill();
        pen.stroke();
    } else {
        pen.setLineDash([3, 2]);
        pen.moveTo(x, y - 6);
        pen.lineTo(x, y + 6);
        pen.stroke();
        pen.setLineDash([]);
    }
}

/** Draws small triangles at the top for values above the axis. */
export function drawPeaks(pen, frame, peaks, colour) {
    const place = placeIn(frame);
    let last = -Infinity;
    for (const { x, colour: own } of [...peaks].sort((a, b) => a.x - b.x)) {
        const at = place.x(x);
        if (at - last < APART) continue;
        last = at;
        pen.fillStyle = colour(own);
        pen.beginPath();
        for (const [dx, dy] of [[0, -7], [4, 0], [-4, 0]]) pen.lineTo(at + dx, frame.top + dy);
        pen.fill();
    }
}

/** If many points share a pixel, draws the lowest and highest. `highs`: maxima, where each point stands for several. */
function trace(pen, place, line, ys, highs = ys) {
    pen.beginPath();
    let column = null;
    const close = () => column && [column.low, column.high, column.last].forEach((y) => pen.lineTo(column.x, y));
    for (let i = line.begin; i < line.end; i += 1) {
        if (!Number.isFinite(ys[i])) continue;
        const x = Math.round(place.x(line.xs[i]) * 2) / 2;
        const y = place.y(ys[i]);
        const top = place.y(highs[i]);
        if (column && column.x === x) {
            column.low = Math.max(column.low, y);
            column.high = Math.min(column.high, top);
            column.last = y;
        } else {
            close();
            column = { x, low: y, high: top, last: y };
        }
    }
    close();
    pen.stroke();
}
