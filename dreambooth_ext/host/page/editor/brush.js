// A mask, painted over its picture: white counts, black does not. What does not count is shown dark.

import { element } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.editor;
const LONGEST = 1024; // pixels of the mask that is painted; the server scales it to the picture
const HIGHEST = 0.62; // of the window
const KEPT = 20; // strokes that can be undone
const STAMPS = 5; // in a brush's radius along a stroke

export class Brush {
    /** @param {{changed: () => void, drawn: (ellipse: number[]) => void}} about `drawn`: an ellipse, in percent */
    constructor({ changed, drawn }) {
        Object.assign(this, { changed, drawn });
        this.tool = "counts"; // or "not", "erase", "ellipse"
        this.size = 12; // the brush's diameter, percent of the shorter side
        this.soft = 30; // percent of its radius that fade out
        this.picture = element("img", { class: "db-stage-picture", alt: "" });
        this.mask = element("canvas", { class: "db-mask" });
        this.cursor = element("div", { class: "db-brush", hidden: true });
        this.view = element(
            "div", { class: "db-stage-view db-painted", tabindex: "0", role: "group", "aria-label": T.canvas, "aria-roledescription": T.canvasKind, title: T.canvasHelp },
            this.picture, this.mask, this.cursor,
        );
        this.element = element("div", { class: "db-stage" }, this.view);
        this.view.addEventListener("pointerdown", (event) => this.#onDown(event));
        this.view.addEventListener("pointermove", (event) => this.#follow(this.#at(event)));
        this.view.addEventListener("pointerleave", () => (this.cursor.hidden = document.activeElement !== this.view));
        this.view.addEventListener("keydown", (event) => this.#onKey(event));
        this.view.addEventListener("focus", () => this.#follow(this.place || [this.mask.width / 2, this.mask.height / 2]));
        this.view.addEventListener("blur", () => (this.cursor.hidden = true));
        new ResizeObserver(() => this.#fit()).observe(this.element);
    }

    /** @param {HTMLImageElement} picture  @param {HTMLImageElement?} mask  without one, everything counts */
    load(picture, mask) {
        this.picture.src = picture.src;
        const scale = Math.min(1, LONGEST / Math.max(picture.naturalWidth, picture.naturalHeight));
        Object.assign(this.mask, { width: Math.round(picture.naturalWidth * scale), height: Math.round(picture.naturalHeight * scale) });
        this.brush = this.mask.getContext("2d", { willReadFrequently: true });
        this.#cover("#ffffff");
        if (mask) this.brush.drawImage(mask, 0, 0, this.mask.width, this.mask.height);
        this.start = element("canvas", {});
        Object.assign(this.start, { width: this.mask.width, height: this.mask.height });
        this.start.getContext("2d").drawImage(this.mask, 0, 0);
        this.strokes = [];
        this.place = null;
        this.#fit();
    }

    get isChanged() {
        return Boolean(this.strokes?.length);
    }

    /** Takes the last stroke back. */
    undo() {
        const before = this.strokes.pop();
        if (before) this.brush.putImageData(before, 0, 0);
        this.changed();
    }

    /** Everything counts ("#ffffff"), or nothing ("#000000"). */
    cover(colour) {
        this.#keep();
        this.#cover(colour);
        this.changed();
    }

    invert() {
        this.#keep();
        this.brush.globalCompositeOperation = "difference";
        this.#cover("#ffffff");
        this.brush.globalCompositeOperation = "source-over";
        this.changed();
    }

    /** What is in an ellipse counts, the rest does not. @param {number[]} box left, top, width, height in percent */
    ellipse([left, top, width, height]) {
        this.#keep();
        this.#cover("#000000");
        const [wide, high] = [this.mask.width / 100, this.mask.height / 100];
        const radii = [Math.max(1, width * wide / 2), Math.max(1, height * high / 2)];
        const soft = Math.min(0.99, this.soft / 100);
        this.brush.save();
        this.brush.translate((left + width / 2) * wide, (top + height / 2) * high);
        this.brush.scale(...radii);
        this.brush.fillStyle = this.#shade("#ffffff", 0, 0, 1, soft);
        this.brush.beginPath();
        this.brush.arc(0, 0, 1, 0, 2 * Math.PI);
        this.brush.fill();
        this.brush.restore();
        this.changed();
    }

    /** The mask as a PNG. @returns {Promise<Blob>} */
    file() {
        return new Promise((resolve) => this.mask.toBlob(resolve, "image/png"));
    }

    #cover(colour) {
        this.brush.fillStyle = colour;
        this.brush.fillRect(0, 0, this.mask.width, this.mask.height);
    }

    #keep() {
        this.strokes.push(this.brush.getImageData(0, 0, this.mask.width, this.mask.height));
        if (this.strokes.length > KEPT) this.strokes.shift();
    }

    get #radius() {
        return Math.max(1, Math.min(this.mask.width, this.mask.height) * this.size / 200);
    }

    #fit() {
        const { width, height } = this.mask;
        if (!this.element.clientWidth || !this.brush) return;
        const scale = Math.min(this.element.clientWidth / width, window.innerHeight * HIGHEST / height);
        Object.assign(this.view.style, { width: `${Math.round(width * scale)}px`, height: `${Math.round(height * scale)}px` });
    }

    #onDown(event) {
        if (event.button || !this.brush) return;
        event.preventDefault();
        this.view.focus({ preventScroll: true });
        const begin = this.#at(event);
        let last = begin;
        const isEllipse = this.tool === "ellipse";
        if (!isEllipse) {
            this.#keep();
            this.#stamp(begin);
        }
        const onMove = (moved) => {
            const now = this.#at(moved);
            if (!isEllipse) this.#line(last, now);
            else this.#outline(begin, now);
            last = now;
        };
        const onUp = () => {
            this.view.removeEventListener("pointermove", onMove);
            if (isEllipse && Math.hypot(last[0] - begin[0], last[1] - begin[1]) > 8) this.drawn(this.#percent(begin, last));
            this.#follow(last);
            this.changed();
        };
        this.view.setPointerCapture(event.pointerId);
        this.view.addEventListener("pointermove", onMove);
        for (const end of ["pointerup", "pointercancel"]) this.view.addEventListener(end, onUp, { once: true });
    }

    #onKey(event) {
        const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        if (event.ctrlKey || event.metaKey || this.tool === "ellipse") return;
        const from = this.place || [this.mask.width / 2, this.mask.height / 2];
        if (event.key === " " || event.key === "Enter") {
            this.#keep();
            this.#stamp(from);
            this.changed();
        } else if (event.key in moves) {
            const step = this.#radius / 2;
            const to = from.map((place, axis) => Math.min(Math.max(0, place + moves[event.key][axis] * step), axis ? this.mask.height : this.mask.width));
            if (event.shiftKey) {
                this.#keep();
                this.#line(from, to);
                this.changed();
            }
            this.#follow(to);
        } else {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    }

    #line(from, to) {
        const step = Math.max(1, this.#radius / STAMPS);
        const count = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / step));
        for (let part = 1; part <= count; part += 1) {
            this.#stamp([from[0] + (to[0] - from[0]) * part / count, from[1] + (to[1] - from[1]) * part / count]);
        }
    }

    #stamp([x, y]) {
        const radius = this.#radius;
        this.brush.save();
        this.brush.beginPath();
        this.brush.arc(x, y, radius, 0, 2 * Math.PI);
        if (this.tool === "erase") {
            this.brush.clip();
            this.brush.drawImage(this.start, 0, 0);
        } else {
            const colour = this.tool === "not" ? "#000000" : "#ffffff";
            this.brush.fillStyle = this.#shade(colour, x, y, radius, this.soft / 100);
            this.brush.fill();
        }
        this.brush.restore();
    }

    /** A colour that fades out towards the rim; soft: the share of the radius in which it does. */
    #shade(colour, x, y, radius, soft) {
        if (soft < 0.01) return colour;
        const shade = this.brush.createRadialGradient(x, y, radius * (1 - soft), x, y, radius);
        shade.addColorStop(0, colour);
        shade.addColorStop(1, `${colour}00`);
        return shade;
    }

    #at(event) {
        const about = this.view.getBoundingClientRect();
        return [(event.clientX - about.left) / about.width * this.mask.width, (event.clientY - about.top) / about.height * this.mask.height];
    }

    #percent(from, to) {
        const share = (place, axis) => Math.min(100, Math.max(0, place / (axis ? this.mask.height : this.mask.width) * 100));
        const ends = [0, 1].map((axis) => [share(Math.min(from[axis], to[axis]), axis), share(Math.max(from[axis], to[axis]), axis)]);
        return [ends[0][0], ends[1][0], ends[0][1] - ends[0][0], ends[1][1] - ends[1][0]];
    }

    #outline(from, to) {
        const [left, top, width, height] = this.#percent(from, to);
        this.#circle(left, top, width, height);
    }

    #follow(place) {
        this.place = place;
        const [wide, high] = [this.#radius / this.mask.width * 200, this.#radius / this.mask.height * 200];
        this.#circle(place[0] / this.mask.width * 100 - wide / 2, place[1] / this.mask.height * 100 - high / 2, wide, high);
    }

    #circle(left, top, width, height) {
        this.cursor.hidden = false;
        Object.assign(this.cursor.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
    }
}
