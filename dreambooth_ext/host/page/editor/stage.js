// The picture as it is cropped: turned and straightened, with a box that hand and keyboard move, and in it what training
// leaves of that.

import { element, show } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";
import { fitted, frameOf, isInside, moveIn, spanned } from "./geometry.js";

const T = TEXTS.editor;
const CORNERS = ["nw", "ne", "sw", "se"];
const HIGHEST = 0.62; // of the window
const STEP = 0.01; // of the frame's shorter side, for one press of a key

export class Stage {
    /** @param {{changed: (box: number[]) => void}} about `changed`: the hand has left another box */
    constructor({ changed }) {
        this.changed = changed;
        this.canvas = element("canvas", { class: "db-stage-picture" });
        this.training = element("div", { class: "db-training", hidden: true });
        this.box = element(
            "div", { class: "db-crop", tabindex: "0", role: "group", "aria-label": T.box, "aria-roledescription": T.boxKind, title: T.boxHelp },
            this.training, CORNERS.map((corner) => element("span", { class: `db-handle db-handle-${corner}`, data: { corner } })),
        );
        this.grid = element("div", { class: "db-stage-grid", hidden: true });
        this.view = element("div", { class: "db-stage-view" }, this.canvas, this.grid, this.box);
        this.element = element("div", { class: "db-stage" }, this.view);
        this.box.addEventListener("keydown", (event) => this.#onKey(event));
        this.view.addEventListener("pointerdown", (event) => this.#onDown(event));
        new ResizeObserver(() => this.draw()).observe(this.element);
    }

    /** @param {{image: HTMLImageElement, original: number[], edit: object, box: number[], ratio: number}} about */
    show(about) {
        Object.assign(this, about);
        this.frame = frameOf(this.original, this.edit.turns);
        this.draw();
    }

    /** Shows what training leaves of the box, in its own pixels; null while nobody knows. */
    showTraining(left) {
        show(this.training, Boolean(left));
        if (!left) return;
        const [wide, high] = [this.crop[2] - this.crop[0], this.crop[3] - this.crop[1]];
        this.#place(this.training, left, [wide, high]);
    }

    /** Shows lines to straighten by. */
    showGrid(is) {
        show(this.grid, is);
    }

    draw() {
        if (!this.image?.naturalWidth || !this.element.clientWidth) return;
        const [width, height] = this.frame;
        const scale = Math.min(this.element.clientWidth / width, window.innerHeight * HIGHEST / height);
        const [wide, high] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
        const dense = window.devicePixelRatio || 1;
        Object.assign(this.view.style, { width: `${wide}px`, height: `${high}px` });
        Object.assign(this.canvas, { width: Math.round(wide * dense), height: Math.round(high * dense) });
        const brush = this.canvas.getContext("2d");
        const [long, short] = this.original.map((side) => side * scale * dense);
        brush.translate(this.canvas.width / 2, this.canvas.height / 2);
        brush.rotate((this.edit.turns * 90 + this.edit.straighten) * Math.PI / 180);
        brush.drawImage(this.image, -long / 2, -short / 2, long, short);
        this.#draw(this.crop);
    }

    set crop(box) {
        this.kept = box;
        this.showTraining(null);
        this.#draw(box);
    }

    get crop() {
        return this.kept;
    }

    #draw(box) {
        if (!this.frame) return;
        this.#place(this.box, box, this.frame);
    }

    #place(node, [left, top, right, bottom], [width, height]) {
        const share = (part, whole) => `${part / whole * 100}%`;
        Object.assign(node.style, { left: share(left, width), top: share(top, height), width: share(right - left, width), height: share(bottom - top, height) });
    }

    #onKey(event) {
        const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        const move = moves[event.key];
        if (!move || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        event.stopPropagation();
        const step = event.altKey ? 1 : Math.max(1, Math.round(Math.min(...this.frame) * STEP));
        const [across, down] = move.map((one) => one * step);
        const [left, top, end, bottom] = this.crop;
        if (event.shiftKey) {
            const grown = this.ratio && down ? [left, top, end + down * this.ratio, bottom + down] : [left, top, end + across, bottom + (this.ratio ? across / this.ratio : down)];
            this.#take(spanned(this.frame, [left, top], [grown[2], grown[3]], this.ratio));
        } else {
            this.#take(moveIn(this.frame, [left + across, top + down, end + across, bottom + down]));
        }
    }

    #take(box) {
        if (!isInside(this.frame, this.edit.straighten, box)) return false;
        this.crop = box;
        this.changed(box);
        return true;
    }

    #onDown(event) {
        if (event.button) return;
        event.preventDefault();
        this.box.focus({ preventScroll: true });
        const begin = this.#at(event);
        const [left, top, right, bottom] = this.crop;
        const corner = event.target.dataset?.corner;
        const inBox = event.target === this.box || this.box.contains(event.target);
        const anchors = { nw: [right, bottom], ne: [left, bottom], sw: [right, top], se: [left, top] };
        const anchor = corner ? anchors[corner] : begin.map((place, axis) => Math.min(Math.max(0, place), this.frame[axis]));
        const onMove = (moved) => {
            const at = this.#at(moved);
            const [across, down] = [at[0] - begin[0], at[1] - begin[1]];
            if (inBox && !corner) {
                const tries = [[across, down], [across, 0], [0, down]];
                const boxes = tries.map(([x, y]) => moveIn(this.frame, [left + x, top + y, right + x, bottom + y]));
                const fits = boxes.find((box) => isInside(this.frame, this.edit.straighten, box));
                if (fits) this.crop = fits;
            } else if (corner || Math.hypot(across, down) > 8) {
                const box = spanned(this.frame, anchor, at, this.ratio);
                this.crop = isInside(this.frame, this.edit.straighten, box) ? box : fitted(this.frame, this.edit.straighten, box);
            }
        };
        const onUp = () => {
            this.view.removeEventListener("pointermove", onMove);
            if (this.crop.join() !== [left, top, right, bottom].join()) this.changed(this.crop);
        };
        this.view.setPointerCapture(event.pointerId);
        this.view.addEventListener("pointermove", onMove);
        for (const end of ["pointerup", "pointercancel"]) this.view.addEventListener(end, onUp, { once: true });
    }

    /** Where a pointer is, in pixels of the frame. */
    #at(event) {
        const about = this.view.getBoundingClientRect();
        return [(event.clientX - about.left) / about.width * this.frame[0], (event.clientY - about.top) / about.height * this.frame[1]];
    }
}
