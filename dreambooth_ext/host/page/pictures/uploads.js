// Uploads files into a set: several at once, with progress, and a list of those that were refused.

import { Failure, api } from "../shared/api.js";
import { button, element, fill, show } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.pictures;
const AT_ONCE = 3; // uploads side by side
export const TYPES = { jpg: "image/jpeg", jpeg: "image/jpeg", jfif: "image/jpeg", jpe: "image/jpeg", png: "image/png", webp: "image/webp", bmp: "image/bmp", heic: "image/heic", heif: "image/heif", avif: "image/avif", tif: "image/tiff", tiff: "image/tiff", gif: "image/gif", txt: "text/plain" };
const OTHER_PICTURES = ["svg", "jxl", "raw", "dng", "cr2", "nef", "psd"];
const FINAL = [400, 404, 409, 413, 415, 422]; // answers that the same file gets again

export const ending = (name) => name.split(".").pop().toLowerCase();
export const stem = (name) => name.replace(/\.[^.]*$/, "");

export class Uploads {
    /** @param {{taken: () => string[], arrived: () => void}} about `taken`: names that the set has already */
    constructor({ taken, arrived }) {
        Object.assign(this, { taken, arrived });
        this.failures = element("ul", { class: "db-failures", hidden: true });
        this.status = element("p", { class: "db-quiet", role: "status" });
        this.bar = element("progress", { class: "db-progress", max: "1", value: "0", hidden: true, "aria-label": T.progress });
        this.elements = [this.bar, this.status, this.failures];
        this.into("");
    }

    /** Sets the set to upload into, and clears the entries and errors of the one before. */
    into(set) {
        if (set === this.set) return;
        this.set = set;
        this.items = []; // {name, file, state: "waiting" | "sending" | "failed", fraction, message}
        this.sent = new Map(); // what was uploaded from this page, "name size time" -> name on the server
        this.#show();
    }

    /** Uploads these files, several at once, and names those that are neither pictures nor captions. */
    add(files) {
        for (const file of files) {
            const key = `${file.name} ${file.size} ${file.lastModified}`;
            if (this.sent.has(key) || file.name.startsWith(".")) continue;
            const item = { key, file, name: file.name, set: this.set, state: "waiting", fraction: 0, message: "" };
            if (!(ending(file.name) in TYPES)) Object.assign(item, { state: "failed", message: OTHER_PICTURES.includes(ending(file.name)) ? T.otherKind : T.notAPicture });
            else if (ending(file.name) !== "txt") item.name = this.#freeName(file.name);
            this.sent.set(key, item.name);
            this.items.push(item);
        }
        this.#show();
        this.#next();
    }

    /** A picture was removed from the set: it may be uploaded again. */
    forget(name) {
        for (const [key, kept] of this.sent) if (kept === name) this.sent.delete(key);
    }

    /** Gives a new picture a number if another one has its name. */
    #freeName(name) {
        const taken = new Set([...this.taken(), ...this.sent.values()]);
        let free = name;
        for (let number = 2; taken.has(free); number += 1) free = `${stem(name)}-${number}.${ending(name)}`;
        return free;
    }

    #next() {
        const busy = this.items.filter((item) => item.state === "sending").length;
        const waiting = this.items.filter((item) => item.state === "waiting").slice(0, Math.max(0, AT_ONCE - busy));
        waiting.forEach((item) => this.#send(item));
    }

    async #send(item) {
        item.state = "sending";
        try {
            const answer = await api.upload(["pictures", item.set, item.name], item.file, {
                type: TYPES[ending(item.name)], progress: (fraction) => ((item.fraction = fraction), this.#show()),
            });
            if (item.set !== this.set) return; // meanwhile the form shows other pictures
            if (answer.name) this.sent.set(item.key, answer.name);
            this.#drop(item);
            this.arrived();
        } catch (error) {
            if (item.set !== this.set) return;
            const why = error instanceof Failure ? withRemedy(error) : String(error);
            Object.assign(item, { state: "failed", message: why, again: !FINAL.includes(error.status) });
            this.sent.delete(item.key);
        }
        this.#show();
        this.#next();
    }

    #drop(item) {
        this.items = this.items.filter((one) => one !== item);
    }

    #show() {
        const going = this.items.filter((item) => item.state !== "failed");
        const failed = this.items.filter((item) => item.state === "failed");
        this.total = going.length ? Math.max(this.total || 0, going.length) : 0;
        const done = this.total - going.length + going.reduce((sum, item) => sum + item.fraction, 0);
        show(this.bar, going.length > 0);
        this.bar.value = this.total ? done / this.total : 0;
        fill(this.status, going.length ? phrase(T.sending, { left: going.length }) : null);
        show(this.failures, failed.length > 0);
        fill(this.failures, failed.map((item) => this.#failure(item)), failed.length > 1 ? this.#dismissAll(failed) : null);
    }

    #failure(item) {
        const again = () => {
            Object.assign(item, { state: "waiting", fraction: 0 });
            this.sent.set(item.key, item.name);
            this.#show();
            this.#next();
        };
        const name = item.message.includes(item.file.name) ? null : element("b", { text: `${item.file.name} ` });
        return element(
            "li", { class: "db-failure" }, element("span", {}, name, item.message),
            item.again ? button(T.again, again, { class: "db-small" }) : null,
            button(T.dismiss, () => this.#dismiss([item]), { class: "db-small", "aria-label": `${T.dismiss}: ${item.file.name}` }),
        );
    }

    #dismissAll(failed) {
        return element("li", { class: "db-failure-all" }, button(T.dismissAll, () => this.#dismiss(failed), { class: "db-small" }));
    }

    #dismiss(items) {
        for (const item of items) {
            this.#drop(item);
            this.sent.delete(item.key);
        }
        this.#show();
    }
}

/** A name for a new set: the time, and a random part that no other browser has. */
export function newSet() {
    const time = new Date().toISOString().slice(0, 19).replace(/\D/g, "");
    return `${time}-${Math.random().toString(36).slice(2, 8).padEnd(6, "0")}`;
}

/** The dropped files, including those in dropped folders. */
export async function droppedFiles(transfer) {
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
