// A plot as a picture to keep: with its title, its legend and what lies above its axis, on the page's own ground.

import { saveBlob } from "../shared/dom.js";
import { drawSign } from "./drawing.js";
import { TEXTS } from "../shared/texts.js";

const SCALE = 2; // pixels of the picture for one of the screen
const LINE = 20; // pixels from one line of text to the next
const MARGIN = 12;

/** @param {object} plot `title`, `file`, `bands`, `canvas`, `colour(name)`, `paint(pen)`, `kinds()`, `peaksText(peaks, frame)`  @param {string} name of the run */
export function savePicture(plot, name) {
    const sheet = document.createElement("canvas");
    const [width, height] = [plot.canvas.clientWidth + MARGIN, plot.canvas.clientHeight];
    const pen = sheet.getContext("2d");
    const font = getComputedStyle(plot.canvas).fontFamily;
    pen.font = `12px ${font}`;
    const rows = legendRows(pen, plot, width - 2 * MARGIN);
    const head = MARGIN + LINE * (1 + rows.length);
    sheet.width = width * SCALE;
    sheet.height = (head + height + LINE + MARGIN) * SCALE;
    pen.scale(SCALE, SCALE);
    pen.fillStyle = plot.colour("--db-card");
    pen.fillRect(0, 0, width, head + height + LINE + MARGIN);
    pen.textBaseline = "middle";
    pen.fillStyle = plot.colour("--db-text");
    pen.font = `600 14px ${font}`;
    pen.fillText([plot.title, name].filter(Boolean).join(" · "), MARGIN, MARGIN + LINE / 2);
    pen.font = `12px ${font}`;
    rows.forEach((row, i) => row.forEach((item) => drawItem(pen, plot, item, MARGIN + item.x, MARGIN + LINE * (i + 1.5))));
    pen.save();
    pen.translate(0, head);
    const { frame, peaks } = plot.paint(pen);
    pen.restore();
    pen.textAlign = "start";
    pen.textBaseline = "middle";
    pen.fillStyle = plot.colour("--db-subdued");
    pen.fillText(plot.peaksText(peaks, frame), MARGIN, head + height + LINE / 2);
    sheet.toBlob((blob) => blob && saveBlob(`${name || "run"}-${plot.file}.png`, blob));
}

/** The legend in rows that fit into a width: [[{text, colour?, dash?, kind?, x}]]. */
function legendRows(pen, plot, width) {
    const lines = plot.series.length > 1 ? plot.visibleLines() : [];
    const bands = plot.bands.map(({ text, colour }) => ({ text, colour, isBand: true }));
    const items = [...lines.map(({ name: text, colour, dash }) => ({ text, colour, dash })), ...bands, ...plot.kinds().map((kind) => ({ text: TEXTS.plot.marks[kind], kind }))];
    const rows = [];
    let x = Infinity;
    for (const item of items) {
        const wide = 24 + pen.measureText(item.text).width;
        if (x + wide > width) {
            rows.push([]);
            x = 0;
        }
        rows.at(-1).push({ ...item, x });
        x += wide + 14;
    }
    return rows;
}

function drawBandSign(pen, colour, x, y) {
    pen.fillStyle = colour;
    pen.globalAlpha = 0.35;
    pen.fillRect(x, y - 5, 16, 10);
    pen.globalAlpha = 1;
}

function drawItem(pen, plot, { text, colour, dash, kind, isBand }, x, y) {
    if (isBand) drawBandSign(pen, plot.colour(colour), x, y);
    else if (kind) drawSign(pen, kind, x + 8, y, (name) => plot.colour(name));
    else {
        pen.strokeStyle = plot.colour(colour);
        pen.lineWidth = 3;
        pen.setLineDash(dash ? [4, 3] : []);
        pen.beginPath();
        pen.moveTo(x, y);
        pen.lineTo(x + 16, y);
        pen.stroke();
        pen.setLineDash([]);
    }
    pen.fillStyle = plot.colour("--db-subdued");
    pen.fillText(text, x + 22, y);
}
