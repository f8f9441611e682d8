// The editor: one picture large, to crop, turn and straighten it, and to paint its mask. All of it can be undone, and the
// original is kept.

import { address, api } from "../shared/api.js";
import { Place } from "../pictures/cards.js";
import { copyOf } from "../pictures/copying.js";
import { button, debounced, element, fill, openDialog, say, show, uniqueId } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { MIRRORED, TEXTS } from "../shared/texts.js";
import { Brush } from "./brush.js";
import { CropTools } from "./crop_tools.js";
import { aboutFace, ellipseOf, fitted, frameOf, inFrame, inProportion, inscribed, turnedBox } from "./geometry.js";
import { MaskTools } from "./mask_tools.js";
import { Stage } from "./stage.js";

const T = TEXTS.editor;
const PATIENCE = 200_000; // milliseconds: a straightened picture of 100 million pixels takes its time
const LARGE = 1024; // pixels of what is shown
const NOBODY = { faces: [], crop: null }; // where the subject is, while nobody knows

export class Editor {
    /**
     * @param {object} about `place`: where the pictures are; `pictures`: as GET pictures lists them; `name`: the one to begin
     *     with; `isUsed`: whether runs were queued with the set; `trains`: {resolution, buckets, isRandom}; `own(place)`: the
     *     set to change (pictures.js); `changed()`: something was saved; `moved(set)`: the form goes on with another set
     */
    constructor(about) {
        Object.assign(this, about);
        this.names = this.pictures.map((picture) => picture.name);
        this.at = Math.max(0, this.names.indexOf(about.name));
        this.mode = "crop";
        this.found = NOBODY;
        this.sizes = new Map(); // what GET crop answered
        this.look = debounced(() => this.#lookAtTraining(), 120);
    }

    /** Opens the dialog. */
    open() {
        this.heading = element("p", { class: "db-strong db-editor-name", "aria-live": "polite" });
        this.place.isSet ? this.#build() : this.#offerSet();
        this.dialog.addEventListener("keydown", (event) => this.#onKey(event), true);
        this.dialog.addEventListener("cancel", (event) => (event.preventDefault(), this.#close()));
        if (this.place.isSet) this.#load();
    }

    /** A folder is never changed: a set is made from it first. */
    #offerSet() {
        this.fault = element("p", { class: "db-problem", role: "alert" });
        this.make = button(T.makeSet, () => this.#makeSet(), { class: "db-primary" });
        this.dialog = openDialog(T.title, {}, element("p", { text: T.fromFolder }), this.fault, element("div", { class: "db-row" }, this.make, button(T.close, () => this.dialog.close())));
    }

    async #makeSet() {
        this.make.disabled = true;
        try {
            const copy = await copyOf({ folder: this.place.name });
            this.dialog.close();
            this.moved(copy);
        } catch (error) {
            say(this.fault, withRemedy(error));
            this.make.disabled = false;
        }
    }

    #build() {
        this.stage = new Stage({ changed: (box) => this.#boxed(box) });
        this.tools = new CropTools({
            turn: (by) => this.#turn(by), straighten: (degrees) => this.#straighten(degrees), shape: () => this.#shape(),
            box: (box) => this.#boxed(fitted(this.frame, this.pending.straighten, box)), whole: () => this.#boxed(null),
            face: () => this.#aboutFace(), centre: () => this.#boxed(inProportion(this.#inFrame(this.found.crop), this.tools.ratio)), grid: (is) => this.stage.showGrid(is),
        });
        this.brush = new Brush({ changed: () => this.#refresh(), drawn: (box) => this.maskTools.ellipse(box) });
        this.maskTools = new MaskTools(this.brush, () => this.maskTools.ellipse(ellipseOf(this.found.faces[0], this.told.size)));
        this.fault = element("p", { class: "db-problem", role: "alert" });
        this.said = element("p", { class: "db-quiet", role: "status" });
        const arrow = (text, label, by) => button(text, () => this.#go(by), { "aria-label": label, title: label });
        this.arrows = [arrow(MIRRORED ? "→" : "←", T.previous, -1), arrow(MIRRORED ? "←" : "→", T.next, 1)];
        this.undo = button(T.undo, () => this.#undo(), { class: "db-small" });
        this.redo = button(T.redo, () => this.#post({ action: "redo" }), { class: "db-small" });
        this.restore = button(T.original, () => this.#post({ action: "restore" }), { class: "db-small" });
        this.save = button(T.save, () => this.#save(), { class: "db-primary" });
        this.more = button(T.saveMore, () => this.#saveMore(), { title: T.saveMoreHelp });
        this.remove = button(T.removeMask, () => this.#removeMask());
        this.body = element(
            "div", { class: "db-editor-body" },
            element("div", { class: "db-editor-stage" }, this.stage.element, this.brush.element),
            element(
                "div", { class: "db-stack db-editor-tools" }, this.#modes(), this.tools.element, this.maskTools.element,
                element("div", { class: "db-row" }, this.save, this.more, this.remove),
                element("div", { class: "db-row" }, this.undo, this.redo, this.restore),
                this.fault, this.said, this.isUsed ? element("p", { class: "db-quiet", text: T.isUsed }) : null, element("p", { class: "db-quiet", text: T.keys }),
            ),
        );
        const head = element("div", { class: "db-row db-editor-head" }, this.arrows, this.heading, button(T.close, () => this.#close()));
        this.dialog = openDialog(T.title, { class: "db-editor", tabindex: "-1" }, head, this.body);
    }

    #modes() {
        const name = uniqueId("mode");
        const choice = (value) => element(
            "label", { class: "db-choice" },
            element("input", { type: "radio", name, value, checked: value === this.mode, on: { change: () => this.#change(value) } }),
            element("span", { text: T[value] }),
        );
        return element("div", { class: "db-choices", role: "radiogroup", "aria-label": T.modes }, choice("crop"), choice("mask"));
    }

    get frame() {
        return frameOf(this.told.original, this.pending.turns);
    }

    /** The box that is kept: without a crop, all that is full. */
    get box() {
        return this.pending.crop || inscribed(this.frame, this.pending.straighten);
    }

    get isCropped() {
        const { turns, straighten } = this.told.edit;
        return this.box.join() !== this.told.box.join() || this.pending.turns !== turns || this.pending.straighten !== straighten;
    }

    get isChanged() {
        return Boolean(this.told) && (this.isCropped || this.brush.isChanged);
    }

    // --- one picture ---

    async #load() {
        const asked = (this.asked = Symbol("asked"));
        this.told = null;
        this.sure = false;
        say(this.heading, `${this.names[this.at]} · ${plain(T.place, { number: this.at + 1, count: this.names.length })}`);
        this.#hold(true);
        try {
            const told = await api.get(["edits", this.place.name, this.names[this.at]], {}, 60_000);
            await this.#take(told, asked);
        } catch (error) {
            if (asked === this.asked) this.#complain(error);
        }
        if (asked === this.asked) this.#hold(false);
    }

    /** Shows what the server says of the picture. */
    async #take(told, asked = this.asked) {
        const parts = ["edits", this.place.name, told.name];
        const shown = { t: told.stamp, size: LARGE };
        const [original, picture, mask] = await Promise.all([
            loaded(address([...parts, "original"], shown)), loaded(address(["pictures", this.place.name, told.name], shown)),
            told.mask ? loaded(address([...parts, "mask"], { ...shown, t: `${told.stamp}-${Date.now()}` })) : null,
        ]);
        if (asked !== this.asked) return;
        Object.assign(this, { told, image: original, pending: { ...told.edit }, found: NOBODY });
        this.brush.load(picture, mask);
        await this.#offerShapes();
        this.#change(this.mode);
        this.#refresh();
        this.#find(told, asked);
    }

    /** Asks where the subject is; the tools that go by it wait for that. */
    async #find(told, asked) {
        const found = await api.get(["edits", this.place.name, told.name, "subject"], {}, 90_000).catch(() => NOBODY);
        if (asked !== this.asked || told !== this.told) return;
        this.found = found;
        this.#enable();
    }

    async #offerShapes() {
        this.tools.offer(this.frame, (await this.#trained(this.told.original))?.sizes || []);
    }

    /** What training leaves of a picture of this size, as the server computes it. */
    async #trained([width, height]) {
        const key = `${width} ${height}`;
        const { resolution, buckets } = this.trains;
        if (!this.sizes.has(key)) {
            const query = { width, height, resolution, enable_bucket: buckets ? "true" : "" };
            this.sizes.set(key, api.get(["crop"], query).catch(() => null));
        }
        return this.sizes.get(key);
    }

    async #lookAtTraining() {
        if (!this.told) return; // another picture is on its way
        const { box } = this;
        const trained = await this.#trained([box[2] - box[0], box[3] - box[1]]);
        if (!this.told || box.join() !== this.box.join()) return;
        this.stage.showTraining(trained?.box);
        this.tools.tell(box, trained, this.trains.isRandom);
    }

    #change(mode) {
        this.mode = mode;
        const isCrop = mode === "crop";
        for (const node of [this.stage.element, this.tools.element, this.more]) show(node, isCrop);
        for (const node of [this.brush.element, this.maskTools.element, this.remove]) show(node, !isCrop);
        this.#enable();
    }

    #refresh() {
        if (!this.told) return;
        this.stage.show({ image: this.image, original: this.told.original, edit: this.pending, kept: this.box, ratio: this.tools.ratio });
        this.tools.show({ edit: this.pending, box: this.box });
        this.stage.showTraining(null);
        this.look();
        this.sure = false;
        this.#enable();
    }

    #enable() {
        const { told } = this;
        const isFree = Boolean(told) && !this.isBusy;
        for (const tools of [this.tools, this.maskTools]) tools.offerSubject(this.found);
        this.save.disabled = !isFree || !this.isChanged;
        this.more.disabled = !isFree;
        this.remove.disabled = !isFree || !told.mask;
        this.undo.disabled = !isFree || !(this.isChanged || told.undo);
        this.redo.disabled = !isFree || !told.redo || this.isChanged;
        this.restore.disabled = !isFree || !told.edited;
        this.arrows[0].disabled = this.at === 0;
        this.arrows[1].disabled = this.at === this.names.length - 1;
    }

    // --- what the hand does ---

    #boxed(crop) {
        this.pending = { ...this.pending, crop };
        this.#refresh();
    }

    #turn(by) {
        const crop = this.pending.crop && turnedBox(this.frame, this.pending.crop, by);
        this.pending = { ...this.pending, turns: (this.pending.turns + by + 4) % 4, crop };
        this.tools.offer(this.frame, []);
        this.#offerShapes();
        this.#refresh();
    }

    #straighten(degrees) {
        const straighten = Math.round(Math.min(45, Math.max(-45, degrees)) * 10) / 10;
        const crop = this.pending.crop && fitted(this.frame, straighten, this.pending.crop);
        this.pending = { ...this.pending, straighten, crop };
        this.#refresh();
    }

    #shape() {
        if (this.tools.ratio) this.#boxed(inProportion(this.box, this.tools.ratio));
        else this.#refresh();
    }

    /** A box of the visible picture, where it is in the frame now. */
    #inFrame(box) {
        return fitted(this.frame, this.pending.straighten, inFrame(this.told, this.pending.turns, box));
    }

    #aboutFace() {
        const face = this.#inFrame(this.found.faces[0]);
        this.#boxed(fitted(this.frame, this.pending.straighten, aboutFace(this.frame, face, this.tools.ratio)));
    }

    // --- saving ---

    /** Saves what was changed; false if that failed. */
    async #save() {
        if (!this.isChanged) return true;
        const { brush, pending, isCropped } = this;
        const mask = brush.isChanged ? await brush.file() : null;
        return this.#work(async (set) => {
            let { told } = this;
            if (mask) told = await api.upload(["edits", set, told.name, "mask"], mask, { type: "image/png", query: { stamp: this.#stamp(set) }, timeout: PATIENCE });
            if (isCropped) told = await api.post(["edits", set, told.name], { action: "change", edit: pending, stamp: mask ? told.stamp : this.#stamp(set) }, PATIENCE);
            return told;
        });
    }

    async #saveMore() {
        let made = "";
        const done = await this.#work(async (set) => {
            made = (await api.post(["edits", set, this.told.name], { action: "crop", edit: { ...this.pending, crop: this.box }, stamp: this.#stamp(set) }, PATIENCE)).name;
            return api.get(["edits", set, this.told.name], {}, 60_000);
        });
        if (done) fill(this.said, phrase(T.savedCrop, { name: made }));
    }

    #removeMask() {
        return this.#work((set) => api.delete(["edits", set, this.told.name, "mask"], { query: { stamp: this.#stamp(set) }, timeout: PATIENCE }));
    }

    #post(values) {
        return this.#work((set) => api.post(["edits", set, this.told.name], { ...values, stamp: this.#stamp(set) }, PATIENCE));
    }

    /** Drops what is not saved, or else undoes the last step that was. */
    #undo() {
        if (this.mode === "mask" && this.brush.isChanged) {
            this.brush.undo();
        } else if (this.isChanged) {
            this.pending = { ...this.told.edit };
            this.#refresh();
        } else if (this.told?.undo) {
            this.#post({ action: "undo" });
        }
    }

    /** The stamp of the picture that is shown; a copy of its set has files of another time. */
    #stamp(set) {
        return set === this.place.name ? this.told.stamp : "";
    }

    async #work(ask) {
        if (this.isBusy || !this.told) return false;
        this.#hold(true);
        for (const note of [this.said, this.fault]) say(note, "");
        try {
            const own = await this.own(this.place);
            const told = await ask(own.name);
            this.place = new Place({ source: "upload", set: own.name });
            await this.#take(told);
            say(this.said, T.saved);
            this.changed();
            return true;
        } catch (error) {
            this.#complain(error);
            return false;
        } finally {
            this.#hold(false);
        }
    }

    /** Nothing is changed while something is saved or loaded; afterwards the keys go back to what had them. */
    #hold(isBusy) {
        if (isBusy && !this.isBusy) this.focused = document.activeElement;
        this.isBusy = isBusy;
        this.body.inert = isBusy;
        this.#enable();
        const { focused } = this;
        if (!this.dialog.open) return;
        if (isBusy) this.dialog.focus();
        else if (this.body.contains(focused) && !focused.disabled && focused.offsetParent) focused.focus({ preventScroll: true });
        else (this.mode === "crop" ? this.stage.box : this.brush.view).focus({ preventScroll: true });
    }

    #complain(error) {
        say(this.fault, `${T.failed} ${withRemedy(error)}`);
    }

    // --- going on ---

    async #go(by) {
        const at = this.at + by;
        if ((this.isBusy && this.told) || at < 0 || at >= this.names.length || !(await this.#save())) return;
        this.at = at;
        for (const note of [this.said, this.fault]) say(note, "");
        this.#load();
    }

    #close() {
        if (this.stage && this.isChanged && !this.sure) {
            this.sure = true;
            say(this.said, T.unsaved);
            return;
        }
        this.dialog.close();
    }

    #onKey(event) {
        if (!this.stage) return;
        const isCommand = event.ctrlKey || event.metaKey;
        const keys = {
            PageUp: () => this.#go(-1), PageDown: () => this.#go(1), "^z": () => (event.shiftKey ? this.#redo() : this.#undo()),
            "^y": () => this.#redo(), "^s": () => this.#save(),
        };
        const run = keys[isCommand ? `^${event.key.toLowerCase()}` : event.key];
        if (!run || (isCommand && event.target.matches("input[type=number]") && event.key !== "s")) return;
        event.preventDefault();
        event.stopPropagation();
        run();
    }

    #redo() {
        if (!this.redo.disabled) this.#post({ action: "redo" });
    }
}

/** A picture that is loaded. Throws if it cannot be. */
async function loaded(url) {
    const image = element("img", { src: url, alt: "" });
    await image.decode();
    return image;
}
