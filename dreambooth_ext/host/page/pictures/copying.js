// Copies a set, or a folder of the server, into a new set: what takes longer than a moment shows how far it is.

import { Failure, api } from "../shared/api.js";
import { button, element, fill, openDialog } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.copying;
const LOOKS = 500; // milliseconds
const PATIENCE = 60_000; // milliseconds for an answer: a folder with many files is listed first

/**
 * The copy, {set, left_out}, once it is whole. Throws Failure, also if it is stopped: then nothing of it is left.
 * @param {{set: string} | {folder: string}} what
 */
export async function copyOf(what) {
    let told = await api.post(["copies"], what, PATIENCE);
    const shown = told.state === "running" ? new Shown(told) : null;
    try {
        while (told.state === "running") {
            shown.tell(told);
            await new Promise((resolve) => setTimeout(resolve, LOOKS));
            told = await stateOf(told);
        }
    } finally {
        shown?.close();
    }
    if (told.state === "stopped") throw new Failure(T.stopped);
    if (told.problem) throw new Failure(told.problem.message, told.problem);
    return told;
}

/** The copy's state; the last one while nobody answers. */
async function stateOf(told) {
    try {
        return await api.get(["copies", told.id]);
    } catch (error) {
        if (error.isLost) return told;
        throw error;
    }
}

/** What is shown meanwhile, with Stop. */
class Shown {
    constructor({ id }) {
        this.bar = element("progress", { class: "db-progress", max: "1", "aria-label": T.title });
        this.count = element("p", { class: "db-quiet", role: "status" });
        this.stop = button(T.stop, () => this.#stop(id));
        this.dialog = openDialog(T.title, { class: "db-copying" }, this.bar, this.count, element("div", { class: "db-row" }, this.stop));
        this.dialog.addEventListener("cancel", (event) => (event.preventDefault(), this.#stop(id)));
    }

    tell({ done, total }) {
        if (total) this.bar.value = done / total;
        fill(this.count, total ? phrase(T.progress, { done, total }) : null);
    }

    async #stop(id) {
        this.stop.disabled = true;
        try {
            await api.delete(["copies", id]);
        } catch {
            this.stop.disabled = false; // it goes on; one may try again
        }
    }

    close() {
        this.dialog.close();
    }
}
