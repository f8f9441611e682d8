// The first question, which pictures: uploads with thumbnails and captions, or a folder of the server.

import { api } from "../shared/api.js";
import { Card, Place } from "./cards.js";
import { copyOf } from "./copying.js";
import { Findings } from "./findings.js";
import { CaptionEditor } from "../captions/editor.js";
import { Editor } from "../editor/editor.js";
import { button, debounced, element, fill, say, show, sureButton, uniqueId } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { Masks } from "../masks/masks.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";
import { Sets } from "./sets.js";
import { Uploads, droppedFiles, newSet } from "./uploads.js";

const T = TEXTS.pictures;
const SMALL = 512; // pixels, below which the guide warns; less where less is trained

export class Pictures {
    /** @param {import("../train/settings.js").Settings} settings */
    constructor(settings) {
        this.settings = settings;
        this.cards = new Map(); // of the pictures at `place`, by name
        this.listing = [];
        this.found = 0; // how many there are; the listing may have fewer
        this.small = SMALL;
        this.uploads = new Uploads({ taken: () => this.settings.uploaded.names, arrived: () => this.reload() });
        this.masks = new Masks(settings, { own: (place) => this.#own(place), changed: () => this.load(), drawn: () => this.#drawCards() });
        this.sets = new Sets({ current: () => this.settings.state.set, choose: (name) => this.#chooseSet(name), changed: () => this.load() });
        this.findings = new Findings(settings, { cards: () => this.cards });
        this.element = this.#build();
        this.reload = debounced(() => this.load(), 250);
        this.looking = debounced(() => this.load(), 600);
        this.#move();
        this.#showSource();
    }

    #build() {
        const { state } = this.settings;
        this.file = element("input", {
            type: "file", multiple: true, accept: ".jpg,.jpeg,.jfif,.jpe,.png,.webp,.bmp,.heic,.heif,.avif,.tif,.tiff,.gif,.txt,image/*", class: "db-file", "aria-label": T.choose,
            on: { change: () => (this.add([...this.file.files]), (this.file.value = "")) },
        });
        this.drop = element(
            "label", { class: "db-drop" }, this.file,
            element("span", { class: "db-drop-main", text: T.drop }), element("span", { class: "db-quiet", text: T.formats }),
        );
        this.#listenForDrops();
        const folderId = uniqueId("folder");
        this.folder = element("input", {
            id: folderId, type: "text", class: "db-input", value: state.folder, autocomplete: "off", spellcheck: "false", placeholder: T.folderExample,
            on: { input: () => (this.settings.answer("folder", this.folder.value), this.looking()) },
        });
        this.folderNote = element("p", { class: "db-quiet" });
        this.folderBox = element("div", { class: "db-stack" }, element("label", { class: "db-label", for: folderId, text: T.folder }), this.folder, this.folderNote);
        this.advice = element("span", { class: "db-quiet" });
        this.number = element("span", { class: "db-strong" });
        this.captionSwitch = button("", () => this.#switchCaptions(), { class: "db-small" });
        this.more = element("span", { class: "db-quiet", text: T.more });
        this.ofAll = [
            this.captionSwitch, button(TEXTS.captioning.open, () => this.#editCaptions(), { class: "db-small db-open-captions" }),
            sureButton(T.removeAll, T.removeAllSure, () => this.#removeAll(), { class: "db-small" }),
        ]; // made once: one that is made anew while its dialog is open would not get the focus back
        this.summary = element("div", { class: "db-row db-pictures-head" }, this.number, this.advice, this.ofAll, this.more);
        this.problem = element("div", { class: "db-problem", hidden: true });
        this.refusal = element("div", { class: "db-problem", role: "alert", hidden: true });
        this.unread = element("div", { class: "db-banner", hidden: true });
        this.grid = element("ul", { class: "db-grid" });
        return element(
            "div", { class: "db-stack" }, this.#sourceChoice(), this.sets.element, this.drop, this.folderBox,
            this.uploads.elements, this.problem, this.refusal, this.summary, this.unread, this.findings.element, this.masks.element, this.grid,
        );
    }

    #sourceChoice() {
        const name = uniqueId("source");
        this.sources = {};
        const choice = (value, text) => {
            const input = element("input", { type: "radio", name, value, on: { change: () => this.#choose(value) } });
            this.sources[value] = input;
            return element("label", { class: "db-choice" }, input, element("span", { text }));
        };
        return element(
            "div", { class: "db-choices", role: "radiogroup", "aria-label": T.source },
            choice("upload", T.upload), choice("folder", T.fromFolder),
        );
    }

    #choose(source) {
        this.settings.answer("source", source);
        this.#showSource();
        this.load();
    }

    #showSource() {
        const { source } = this.settings.state;
        this.sources[source].checked = true;
        show(this.drop, source === "upload");
        show(this.folderBox, source === "folder");
        show(this.sets.element, source === "upload");
    }

    /** Called when the form's answers have changed. */
    refresh() {
        const { state, host } = this.settings;
        if (document.activeElement !== this.folder) this.folder.value = state.folder;
        this.sources.folder.disabled = Boolean(host.restricted);
        this.folder.disabled = Boolean(host.restricted);
        say(this.folderNote, host.restricted || T.folderHint);
        this.#move();
        this.#showSource();
        say(this.advice, this.#advise());
        this.masks.refresh(this.place, this.listing);
        const small = Math.min(SMALL, this.settings.given("resolution") || SMALL);
        if (small === this.small) return;
        this.small = small;
        for (const picture of this.listing) this.cards.get(picture.name)?.refresh(picture, small);
    }

    /** How the run will train its pictures, as far as a crop is concerned. `filled`: what the guide fills in. */
    trains(filled = this.filled) {
        const value = (name) => this.settings.given(name) ?? filled?.[name]?.value ?? this.settings.known.get(name).default;
        return { resolution: value("resolution") || SMALL, buckets: Boolean(value("enable_bucket")), isRandom: !value("center_crop") };
    }

    /** Changes the place if the answers name another, and clears the old one's cards, counts and errors. */
    #move() {
        const place = new Place(this.settings.state);
        if (place.equals(this.place)) return;
        this.place = place;
        this.known = false; // whether the server has said what is there
        this.isUsed = false; // whether runs were queued with it
        this.asked = null; // an answer that is still to come is of the old place
        if (place.isSet) this.uploads.into(place.name);
        this.#complain(this.problem, "");
        this.#complain(this.refusal, "");
        this.#list([], 0, "");
    }

    // --- what is there ---

    /** Fetches the list of the set's or folder's pictures. */
    async load() {
        this.#move();
        const { place } = this;
        const asked = (this.asked = Symbol("asked"));
        let found = { pictures: [], folder: "" };
        let trouble = "";
        if (place.query) {
            try {
                found = await api.get(["pictures"], place.query, 60_000);
            } catch (error) {
                if (place.isSet && error.status === 404) found = null; // it was deleted meanwhile
                else trouble = withRemedy(error);
            }
        }
        if (asked !== this.asked) return; // a newer question is under way, or the place is another
        if (!found) {
            this.settings.answer("set", "");
            return;
        }
        this.#tellUnread(place.isSet ? 0 : found.unread || 0);
        this.known = !trouble;
        this.isUsed = Boolean(found.used);
        this.#complain(this.problem, trouble);
        this.#list(found.pictures || [], found.count, place.isSet ? found.folder || "" : "");
        const { names } = this.settings.uploaded;
        this.settings.answer("pictures", `${found.folder} ${names.join("|")} ${this.settings.uploaded.captions.length}`);
    }

    /** Pictures of a folder that can only be trained on after they were converted, in a copy. */
    #tellUnread(count) {
        show(this.unread, count > 0);
        if (!count) return;
        const convert = button(TEXTS.copying.convert, () => this.#convert(convert), { class: "db-small" });
        fill(this.unread, element("span", {}, phrase(TEXTS.copying.unread, { count })), element("div", {}, convert));
    }

    async #convert(pressed) {
        const { place } = this;
        pressed.disabled = true;
        this.#complain(this.refusal, "");
        try {
            const copy = await copyOf({ folder: place.name });
            if (place.equals(this.place)) this.#goOnWith(copy); // else the form shows other pictures meanwhile
        } catch (error) {
            if (place.equals(this.place)) this.#complain(this.refusal, withRemedy(error));
            pressed.disabled = false;
        }
    }

    #list(listing, count, folder) {
        this.listing = listing;
        const words = listing.filter((one) => one.caption);
        this.settings.uploaded = {
            folder: listing.length ? folder : "",
            count: listing.length,
            captioned: listing.length > 0 && words.length === listing.length,
            captions: words.map((one) => one.caption),
            names: listing.map((one) => one.name),
        };
        this.found = count ?? listing.length;
        this.#draw();
    }

    get count() {
        return this.settings.uploaded.count;
    }

    #draw() {
        const count = this.found;
        this.#drawCards();
        say(this.advice, this.#advise());
        fill(this.number, count ? phrase(count === 1 ? T.one : T.count, { count }) : null);
        for (const one of this.ofAll) show(one, count > 0 && (one !== this.ofAll.at(-1) || this.place.isSet));
        show(this.more, count > this.listing.length);
        const isShown = Boolean(this.settings.state.captions);
        say(this.captionSwitch, isShown ? T.hideCaptions : T.showCaptions);
        this.captionSwitch.setAttribute("aria-pressed", String(isShown));
        this.masks.refresh(this.place, this.listing);
        this.grid.classList.toggle("db-captions", isShown);
    }

    #drawCards() {
        const { place } = this;
        const seen = new Set(this.listing.map((one) => one.name));
        for (const [name, card] of this.cards) {
            if (seen.has(name) && place.equals(card.place)) continue;
            card.element.remove();
            this.cards.delete(name);
        }
        let next = this.grid.firstChild;
        for (const picture of this.listing) {
            if (!this.cards.has(picture.name)) {
                this.cards.set(picture.name, new Card({ picture, place, remove: (card) => this.#remove(card), saved: () => this.reload(), edit: (name) => this.#edit(name), own: (one) => this.#own(one) }));
            }
            const card = this.cards.get(picture.name);
            card.refresh(picture, this.small);
            card.look(this.masks.isShown);
            this.findings.mark(card);
            if (card.element === next) next = next.nextSibling;
            else this.grid.insertBefore(card.element, next); // one that is moved loses the keyboard's focus
        }
        this.findings.look(place, this.found);
    }

    /** The guide's advice for this many pictures of this subject type. */
    #advise() {
        const count = this.found;
        const { pictures } = this.settings.subject;
        if (!pictures || !count || !this.settings.bindsWord) return "";
        const values = { least: pictures.least, from: pictures.best_from, to: pictures.best_to, most: pictures.most };
        if (count < pictures.least) return plain(T.few, values);
        if (count < pictures.best_from) return plain(T.better, values);
        if (count > pictures.most) return plain(T.many, values);
        return T.good;
    }

    #switchCaptions() {
        this.settings.answer("captions", !this.settings.state.captions);
        this.#draw();
    }

    #editCaptions() {
        const moved = (set) => {
            this.settings.answer("source", "upload");
            this.settings.answer("set", set);
            this.#showSource();
            this.#move();
            return new Place({ source: "upload", set });
        };
        return new CaptionEditor(this.settings, { place: this.place, own: (place) => this.#own(place), moved, changed: () => this.load() });
    }

    #complain(box, text) {
        say(box, text);
        show(box, Boolean(text));
    }

    /**
     * The place where pictures of a place may be changed: a set that runs were queued with must stay as it is, so the
     * form continues with a copy of it.
     * @returns {Promise<Place>}
     */
    async #own(place) {
        if (!this.isUsed || !place.equals(this.place)) return place;
        this.copying ||= copyOf({ set: place.name });
        try {
            const { set } = await this.copying;
            if (place.equals(this.place)) this.settings.answer("set", set);
            this.#move();
            return new Place({ source: "upload", set });
        } finally {
            this.copying = null;
        }
    }

    #edit(name) {
        const { place, listing: pictures, isUsed } = this;
        new Editor({ place, pictures, name, isUsed, trains: this.trains(), own: (one) => this.#own(one), changed: () => this.load(), moved: (copy) => this.#goOnWith(copy) }).open();
    }

    /** The form goes on with a copy of its folder. */
    #goOnWith({ set, left_out: leftOut }) {
        this.#chooseSet(set);
        if (leftOut.length) this.#complain(this.refusal, plain(TEXTS.copying.leftOut, { names: leftOut.join(", ") }));
    }

    #chooseSet(name) {
        this.settings.answer("source", "upload");
        this.settings.answer("set", name);
        this.#showSource();
        this.load();
    }

    async #remove(card) {
        if (await this.#removed(card.place, () => card.delete())) this.uploads.forget(card.name);
        this.load();
    }

    async #removeAll() {
        const { place } = this;
        if (!this.isUsed && !(await this.#removed(place, () => api.delete(["pictures", place.name])))) return;
        if (this.settings.state.set === place.name) this.settings.answer("set", "");
    }

    /** Whether `work` removed something; if not, shows why until the next try. */
    async #removed(place, work) {
        this.#complain(this.refusal, "");
        try {
            await work();
        } catch (error) {
            if (error.status === 404) return true; // it is gone already
            if (place.equals(this.place)) this.#complain(this.refusal, `${T.notRemoved} ${withRemedy(error)}`);
            return false;
        }
        return true;
    }

    // --- uploading ---

    #listenForDrops() {
        const over = (event, inside) => {
            event.preventDefault();
            this.drop.classList.toggle("db-over", inside);
        };
        this.drop.addEventListener("dragover", (event) => over(event, true));
        this.drop.addEventListener("dragleave", (event) => over(event, false));
        this.drop.addEventListener("drop", async (event) => {
            over(event, false);
            this.add(await droppedFiles(event.dataTransfer));
        });
    }

    /** Uploads these files into the form's set, a new one if there is none. */
    async add(files) {
        if (!files.length) return;
        if (!this.settings.state.set) this.settings.answer("set", newSet());
        else if (!this.known) await this.load(); // names that the set has already are not taken again
        try {
            await this.#own(this.place);
        } catch (error) {
            this.#complain(this.refusal, withRemedy(error));
            return;
        }
        this.uploads.add(files);
    }
}
