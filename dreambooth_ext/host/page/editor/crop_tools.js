// The tools to crop by: turning, straightening, proportions, numbers.

import { button, element, fill, say, uniqueId } from "../shared/dom.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.editor;
const STEEP = 15; // degrees that the slider reaches; the field beside it takes more
const STEEPEST = 45;

export class CropTools {
    /**
     * @param {object} about `turn(by)`, `straighten(degrees)`, `shape(ratio)`, `box(box)`, `whole()`, `face()`, `centre()`:
     *     what is asked for; `grid(is)`: whether lines help now
     */
    constructor(about) {
        Object.assign(this, { about });
        const degrees = { step: "0.1", on: { input: (event) => about.straighten(Number(event.target.value) || 0) } };
        const [sliderId, shapeId] = [uniqueId("straighten"), uniqueId("shape")];
        this.slider = element("input", { id: sliderId, type: "range", class: "db-range", min: -STEEP, max: STEEP, ...degrees });
        this.degrees = element("input", { type: "number", class: "db-input db-short", min: -STEEPEST, max: STEEPEST, "aria-label": T.degrees, ...degrees });
        for (const node of [this.slider, this.degrees]) {
            for (const event of ["focus", "pointerdown"]) node.addEventListener(event, () => about.grid(true));
            node.addEventListener("blur", () => about.grid(false));
        }
        this.shape = element("select", { id: shapeId, class: "db-input db-inline", on: { change: () => about.shape(this.ratio) } });
        this.face = button(T.face, () => about.face(), { class: "db-small" });
        this.centre = button(T.centre, () => about.centre(), { class: "db-small" });
        this.numbers = ["left", "top", "width", "height"].map((name) => element("input", { type: "number", class: "db-input db-short", min: "0", step: "1", "aria-label": T[name], on: { change: () => this.#typed() } }));
        this.note = element("p", { class: "db-quiet", "aria-live": "polite" });
        this.element = element(
            "div", { class: "db-stack" },
            element("div", { class: "db-row" }, button("↺", () => about.turn(-1), { "aria-label": T.turnLeft, title: T.turnLeft }), button("↻", () => about.turn(1), { "aria-label": T.turnRight, title: T.turnRight })),
            element("div", { class: "db-row" }, element("label", { class: "db-label", for: sliderId, text: T.straighten }), this.slider, this.degrees),
            element("div", { class: "db-row" }, element("label", { class: "db-label", for: shapeId, text: T.proportions }), this.shape),
            element("div", { class: "db-row" }, button(T.whole, () => about.whole(), { class: "db-small" }), this.face, this.centre),
            element("div", { class: "db-editor-numbers" }, this.numbers.map((input) => element("label", { class: "db-editor-number" }, element("span", { class: "db-label", text: input.getAttribute("aria-label") }), input))),
            this.note,
        );
    }

    /** The chosen width / height; 0 for any. */
    get ratio() {
        return Number(this.shape.value) || 0;
    }

    /** @param {number[]} frame  @param {number[][]} sizes at which pictures are trained */
    offer(frame, sizes) {
        const known = new Map([["0", T.free], [String(frame[0] / frame[1]), T.asPicture], ["1", T.square]]);
        for (const [width, height] of sizes) {
            const ratio = String(width / height);
            if (!known.has(ratio)) known.set(ratio, `${width} × ${height}`);
        }
        const before = this.shape.value;
        fill(this.shape, [...known].map(([value, text]) => element("option", { value, text })));
        this.shape.value = known.has(before) ? before : "0";
    }

    /** @param {{faces: number[][], crop: number[]?}} found */
    offerSubject({ faces, crop }) {
        this.face.disabled = !faces.length;
        this.centre.disabled = !crop;
    }

    /** @param {{edit: object, box: number[]}} about */
    show({ edit, box }) {
        for (const node of [this.slider, this.degrees]) if (document.activeElement !== node) node.value = String(edit.straighten);
        const values = [box[0], box[1], box[2] - box[0], box[3] - box[1]];
        this.numbers.forEach((input, place) => document.activeElement !== input && (input.value = String(values[place])));
    }

    /** Says what training leaves of the box. @param {{target: number[], box: number[]}?} left as GET crop answers */
    tell([left, top, right, bottom], trained, isRandom) {
        const [width, height] = [right - left, bottom - top];
        if (!trained) {
            say(this.note, `${width} × ${height}`);
            return;
        }
        const [wide, high] = [trained.box[2] - trained.box[0], trained.box[3] - trained.box[1]].map(Math.round);
        const values = { width, height, wide, high, target: trained.target.join(" × ") };
        const isAll = Math.abs(wide - width) < 2 && Math.abs(high - height) < 2;
        const notes = [plain(isAll ? T.trainsAll : T.trains, values)];
        if (wide < trained.target[0]) notes.push(T.enlarged);
        if (isRandom && !isAll) notes.push(T.movesAbout);
        say(this.note, notes.join(" "));
    }

    #typed() {
        const [left, top, width, height] = this.numbers.map((input) => Number(input.value) || 0);
        this.about.box([left, top, left + width, top + height]);
    }
}
