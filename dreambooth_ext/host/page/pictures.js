// The first question: which pictures. Uploads with thumbnails and captions, or a folder of the server.

import { Failure, address, api } from "./api.js";
import { append, button, debounced, element, fill, say, show, sureButton, uniqueId } from "./dom.js";
import { phrase, plain } from "./phrase.js";
import { TEXTS } from "./texts.js";

const AT_ONCE = 3; // uploads side by side
const TYPES = { jpg: "image/jpeg", jpeg: "image/jpeg", jfif: "image/jpeg", jpe: "image/jpeg", png: "image/png", webp: "image/webp", bmp: "image/bmp", txt: "text/plain" };
const SMALL = 512; // pixels, below which the guide warns; less where less is trained

const ending = (name) => name.split(".").pop().toLowerCase();
const stem = (name) => name.replace(/\.[^.]*$/, "");

export class Pictures {
    /** @param {import("./settings.js").Settings} settings */
    constructor(settings) {
        this.settings = settings;
        this.sending = []; // {name, file, state: "waiting" | "sending" | "failed", fraction, message}
        this.sent = new Map(); // what was uploaded from this page, "name size time" -> name on the server
        this.cards = new Map();
        this.listing = [];
        this.found = 0; // how many there are; the listing may have fewer
        this.small = SMALL;
        this.element = this.#build();
        this.reload = debounced(() => this.load(), 250);
        this.looking = debounced(() => this.load(), 600);
        this.#showSource();
    }

    #build() {
        const { state } = this.settings;
        this.file = element("input", {
            type: "file", multiple: true, accept: ".jpg,.jpeg,.jfif,.jpe,.png,.webp,.bmp,.txt,image/*", class: "db-file", "aria-label": TEXTS.pictures.choose,
            on: { change: () => (this.add([...this.file.files]), (this.file.value = "")) },
        });
        this.drop = element(
            "label", { class: "db-drop" }, this.file,
            element("span", { class: "db-drop-main", text: TEXTS.pictures.drop }), element("span", { class: "db-quiet", text: TEXTS.pictures.formats }),
        );
        this.#listenForDrops();
        const folderId = uniqueId("folder");
        this.folder = element("input", {
            id: folderId, type: "text", class: "db-input", value: state.folder, autocomplete: "off", spellcheck: "false", placeholder: TEXTS.pictures.folderExample,
            on: { input: () => (this.settings.answer("folder", this.folder.value), this.looking()) },
        });
        this.folderNote = element("p", { class: "db-quiet" });
        this.folderBox = element("div", { class: "db-stack" }, element("label", { class: "db-label", for: folderId, text: TEXTS.pictures.folder }), this.folder, this.folderNote);
        this.advice = element("span", { class: "db-quiet" });
        this.summary = element("div", { class: "db-row db-pictures-head" });
        this.failures = element("ul", { class: "db-failures", hidden: true });
        this.status = element("p", { class: "db-quiet", role: "status" });
        this.bar = element("progress", { class: "db-progress", max: "1", value: "0", hidden: true, "aria-label": TEXTS.pictures.progress });
        this.problem = element("div", { class: "db-problem", hidden: true });
        this.grid = element("ul", { class: "db-grid" });
        return element(
            "div", { class: "db-stack" }, this.#sourceChoice(), this.drop, this.folderBox,
            this.bar, this.status, this.failures, this.problem, this.summary, this.grid,
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
            "div", { class: "db-choices", role: "radiogroup", "aria-label": TEXTS.pictures.source },
            choice("upload", TEXTS.pictures.upload), choice("folder", TEXTS.pictures.fromFolder),
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
    }

    /** The form has other answers now. */
    refresh() {
        const { state, host } = this.settings;
        if (document.activeElement !== this.folder) this.folder.value = state.folder;
        this.sources.folder.disabled = Boolean(host.restricted);
        this.folder.disabled = Boolean(host.restricted);
        say(this.folderNote, host.restricted || TEXTS.pictures.folderHint);
        this.#showSource();
        say(this.advice, this.#advise());
        const small = Math.min(SMALL, this.settings.given("resolution") || SMALL);
        if (small === this.small) return;
        this.small = small;
        for (const picture of this.listing) this.cards.get(picture.name)?.refresh(picture);
    }

    // --- what is there ---

    /** Asks the server what the set or the folder holds. */
    async load() {
        const { source, set, folder } = this.settings.state;
        const query = source === "upload" ? { set } : { folder: folder.trim() };
        const asked = (this.asked = Symbol("asked"));
        let found = { pictures: [], folder: "" };
        let trouble = "";
        if (query.set || query.folder) {
            try {
                found = await api.get(["pictures"], query, 60_000);
            } catch (error) {
                if (source === "upload" && error.status === 404) this.settings.answer("set", ""); // it was deleted meanwhile
                else trouble = `${error.message} ${error.remedy || ""}`.trim();
            }
        }
        if (asked !== this.asked) return; // a newer question is under way
        this.#blame(trouble);
        this.#took(found, source === "upload" ? found.folder || "" : "");
    }

    #took(found, folder) {
        this.listing = found.pictures || [];
        const words = this.listing.filter((one) => one.caption);
        this.settings.uploaded = {
            folder: this.listing.length ? folder : "",
            count: this.listing.length,
            captioned: this.listing.length > 0 && words.length === this.listing.length,
            captions: words.map((one) => one.caption),
            names: this.listing.map((one) => one.name),
        };
        this.found = found.count ?? this.listing.length;
        this.#draw();
        this.settings.answer("pictures", `${folder} ${this.settings.uploaded.names.join("|")} ${words.length}`);
    }

    get count() {
        return this.settings.uploaded.count;
    }

    #draw() {
        const count = this.found;
        const seen = new Set(this.listing.map((one) => one.name));
        for (const [name, card] of this.cards) if (!seen.has(name)) (card.element.remove(), this.cards.delete(name));
        for (const picture of this.listing) {
            if (!this.cards.has(picture.name)) this.cards.set(picture.name, this.#card(picture));
            this.cards.get(picture.name).refresh(picture);
            this.grid.append(this.cards.get(picture.name).element);
        }
        say(this.advice, this.#advise());
        fill(
            this.summary,
            count ? element("span", { class: "db-strong" }, phrase(count === 1 ? TEXTS.pictures.one : TEXTS.pictures.count, { count })) : null,
            this.advice,
            count ? this.#captionSwitch() : null,
            count && this.settings.state.source === "upload" ? sureButton(TEXTS.pictures.removeAll, TEXTS.pictures.removeAllSure, () => this.#removeAll(), { class: "db-small" }) : null,
        );
        this.grid.classList.toggle("db-captions", Boolean(this.settings.state.captions));
        if (count > this.listing.length) append(this.summary, element("span", { class: "db-quiet", text: TEXTS.pictures.more }));
    }

    /** What the guide says of so many pictures of this type. */
    #advise() {
        const count = this.found;
        const { pictures } = this.settings.subject;
        if (!pictures || !count || !this.settings.bindsWord) return "";
        const values = { least: pictures.least, from: pictures.best_from, to: pictures.best_to, most: pictures.most };
        if (count < pictures.least) return plain(TEXTS.pictures.few, values);
        if (count < pictures.best_from) return plain(TEXTS.pictures.better, values);
        if (count > pictures.most) return plain(TEXTS.pictures.many, values);
        return TEXTS.pictures.good;
    }

    #captionSwitch() {
        const { captions } = this.settings.state;
        return button(captions ? TEXTS.pictures.hideCaptions : TEXTS.pictures.showCaptions, () => {
            this.settings.answer("captions", !captions);
            this.#draw();
        }, { class: "db-small", "aria-pressed": String(Boolean(captions)) });
    }

    #card(picture) {
        const own = this.settings.state.source === "upload";
        const image = element("img", { alt: picture.name, loading: "lazy", src: this.#thumbnail(picture) });
        const note = element("span", { class: "db-note" });
        const caption = element("textarea", {
            class: "db-input db-caption", rows: "3", readonly: !own, "aria-label": plain(TEXTS.pictures.captionOf, { name: picture.name }),
            placeholder: TEXTS.pictures.noCaption, on: { change: () => this.#saveCaption(picture.name, caption, note) },
        });
        const made = element(
            "li", { class: "db-picture" }, image,
            own ? button("×", () => this.#remove(picture.name), {
                class: "db-remove", title: TEXTS.pictures.remove, "aria-label": plain(TEXTS.pictures.removeOne, { name: picture.name }),
            }) : null,
            element("span", { class: "db-picture-name", text: picture.name, title: picture.name }), note, caption,
        );
        const refresh = (now) => {
            const small = now.width && Math.min(now.width, now.height) < this.small;
            const size = now.width ? `${now.width} × ${now.height}` : "";
            say(note, now.problem || (small ? `${size} ${TEXTS.pictures.isSmall}` : size));
            note.classList.toggle("db-warn", Boolean(now.problem || small));
            note.title = now.problem ? now.problem : small ? TEXTS.pictures.small : "";
            made.classList.toggle("db-broken", Boolean(now.problem));
            if (document.activeElement !== caption) caption.value = now.caption || "";
        };
        return { element: made, refresh };
    }

    #thumbnail(picture) {
        const { source, set, folder } = this.settings.state;
        const parts = ["pictures", source === "upload" ? set : "folder", picture.name];
        return address(parts, { size: 160, folder: source === "upload" ? "" : folder.trim() });
    }

    #blame(text) {
        say(this.problem, text);
        show(this.problem, Boolean(text));
    }

    async #saveCaption(name, control, note) {
        try {
            await api.upload(["pictures", this.settings.state.set, `${stem(name)}.txt`], new Blob([control.value.trim()]), { type: TYPES.txt });
            this.reload();
        } catch (error) {
            say(note, `${TEXTS.pictures.captionNotSaved} ${error.message}`);
            note.classList.add("db-warn");
        }
    }

    async #remove(name) {
        try {
            await api.delete(["pictures", this.settings.state.set, name]);
            for (const [key, kept] of this.sent) if (kept === name) this.sent.delete(key);
        } catch (error) {
            this.#blame(`${error.message} ${error.remedy}`);
        }
        this.load();
    }

    async #removeAll() {
        try {
            await api.delete(["pictures", this.settings.state.set]);
        } catch (error) {
            this.#blame(`${error.message} ${error.remedy}`);
        }
        this.sent.clear();
        this.settings.answer("set", "");
        this.load();
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

    /** Uploads these files, several at once. What cannot be a picture or a caption is named at once. */
    add(files) {
        if (!this.settings.state.set) this.settings.answer("set", newSet());
        for (const file of files) {
            const key = `${file.name} ${file.size} ${file.lastModified}`;
            if (this.sent.has(key) || file.name.startsWith(".")) continue;
            const item = { key, file, name: file.name, state: "waiting", fraction: 0, message: "" };
            if (!(ending(file.name) in TYPES)) Object.assign(item, { state: "failed", message: TEXTS.pictures.notAPicture });
            else if (ending(file.name) !== "txt") item.name = this.#freeName(file.name);
            this.sent.set(key, item.name);
            this.sending.push(item);
        }
        this.#progress();
        this.#next();
    }

    /** Another picture of this name stays: the new one gets a number. */
    #freeName(name) {
        const taken = new Set([...this.settings.uploaded.names, ...this.sent.values()]);
        let free = name;
        for (let number = 2; taken.has(free); number += 1) free = `${stem(name)}-${number}.${ending(name)}`;
        return free;
    }

    #next() {
        const busy = this.sending.filter((item) => item.state === "sending").length;
        const waiting = this.sending.filter((item) => item.state === "waiting").slice(0, Math.max(0, AT_ONCE - busy));
        waiting.forEach((item) => this.#send(item));
    }

    async #send(item) {
        item.state = "sending";
        try {
            const type = TYPES[ending(item.name)];
            const answer = await api.upload(["pictures", this.settings.state.set, item.name], item.file, {
                type, progress: (fraction) => ((item.fraction = fraction), this.#progress()),
            });
            if (answer.name) this.sent.set(item.key, answer.name);
            this.sending.splice(this.sending.indexOf(item), 1);
            this.reload();
        } catch (error) {
            const why = error instanceof Failure ? `${error.message} ${error.remedy}`.trim() : String(error);
            Object.assign(item, { state: "failed", message: why, again: true });
            this.sent.delete(item.key);
        }
        this.#progress();
        this.#next();
    }

    #progress() {
        const going = this.sending.filter((item) => item.state !== "failed");
        const failed = this.sending.filter((item) => item.state === "failed");
        this.total = going.length ? Math.max(this.total || 0, going.length) : 0;
        const done = this.total - going.length + going.reduce((sum, item) => sum + item.fraction, 0);
        show(this.bar, going.length > 0);
        this.bar.value = this.total ? done / this.total : 0;
        fill(this.status, going.length ? phrase(TEXTS.pictures.sending, { left: going.length }) : null);
        show(this.failures, failed.length > 0);
        fill(this.failures, failed.map((item) => this.#failure(item)));
    }

    #failure(item) {
        const forget = () => {
            this.sending.splice(this.sending.indexOf(item), 1);
            this.sent.delete(item.key);
        };
        const again = () => {
            Object.assign(item, { state: "waiting", fraction: 0 });
            this.sent.set(item.key, item.name);
            this.#progress();
            this.#next();
        };
        return element(
            "li", { class: "db-failure" }, element("span", {}, element("b", { text: item.file.name }), ` ${item.message}`),
            item.again ? button(TEXTS.pictures.again, again, { class: "db-small" }) : null,
            button(TEXTS.pictures.dismiss, () => (forget(), this.#progress()), { class: "db-small" }),
        );
    }
}

/** A name for a new set: the time, and something that no other browser has. */
function newSet() {
    const time = new Date().toISOString().slice(0, 19).replace(/\D/g, "");
    return `${time}-${Math.random().toString(36).slice(2, 8).padEnd(6, "0")}`;
}

/** The dropped files, those of dropped folders included. */
async function droppedFiles(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
    const found = [];
    const visit = async (entry) => {
        if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
        if (!entry.isDirectory) return;
        const reader = entry.createReader();
        for (;;) { // a reader hands out a hundred at a time
            const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
            if (!some.length) break;
            for (const one of some) await visit(one);
        }
    };
    for (const entry of entries) await visit(entry);
    return found;
}
