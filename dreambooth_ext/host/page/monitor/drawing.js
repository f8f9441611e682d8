// Draws axes and lines on a canvas. A `frame` describes the area: {left, top, width, height} in pixels, the visible
// steps (`seen`), the values from `low` to `high`, and whether these are `logarithmic`.

import { number } from "../shared/format.js";
import { axisTicks, logTicks, ticks } from "./series.js";

/** The position of a step and a value, in pixels. */
export function placeIn(frame) {
    const [from, to] = frame.seen;
    const scale = frame.logarithmic ? (y) => Math.log(Math.max(y, frame.low / 10)) : (y) => y;
    const [low, high] = [scale(frame.low), scale(frame.high)];
    return {
        x: (step) => frame.left + ((step - from) / (to - from || 1)) * frame.width,
        y: (value) => frame.top + frame.height - ((scale(value) - low) / (high - low || 1)) * frame.height,
    };
}

/** Horizontal lines with their values, and steps below. */
export function drawAxes(pen, frame, colour) {
    const place = placeIn(frame);
    pen.strokeStyle = colour("--db-grid");
    pen.fillStyle = colour("--db-subdued");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    const marks = frame.logarithmic ? logTicks(frame.low, frame.high) : axisTicks(frame.low, frame.high);
    for (const mark of marks) {
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
    for (const mark of ticks(...frame.seen, Math.max(2, frame.width / 90))) {
        if (!Number.isInteger(mark)) continue;
        const x = Math.min(Math.max(place.x(mark), frame.left + 6), frame.left + frame.width - 8);
        pen.fillText(number(mark), x, frame.top + frame.height + 7);
    }
}

/** Draws a line's `soft` values; `withRaw`: also its `ys`, faintly. Only between `begin` and `end`. */
export function drawLine(pen, frame, line, colour, withRaw) {
    const place = placeIn(frame);
    pen.strokeStyle = colour;
    pen.lineJoin = "round";
    if (withRaw) {
        pen.globalAlpha = 0.28;
        pen.lineWidth = 1;
        trace(pen, place, line, line.low || line.ys, line.high || line.ys);
        pen.globalAlpha = 1;
    }
    pen.lineWidth = 2;
    trace(pen, place, line, line.soft);
    if (line.end - line.begin === 1) drawDot(pen, place.x(line.xs[line.begin]), place.y(line.soft[line.begin]), colour);
}

export function drawDot(pen, x, y, colour) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(x, y, 3.5, 0, 7);
    pen.fill();
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
