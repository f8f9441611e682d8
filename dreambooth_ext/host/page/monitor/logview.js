// The end of a run's log, updated as it grows.

import { api } from "../shared/api.js";
import { element, say } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const MOST = 200_000; // letters that are kept

export class LogView {
    constructor() {
        this.text = element("pre", { class: "db-log", dir: "ltr", tabindex: "0", "aria-label": TEXTS.monitor.log });
        this.element = element("details", { class: "db-card" }, element("summary", {}, element("span", { class: "db-h", text: TEXTS.monitor.log })), this.text);
        this.element.addEventListener("toggle", () => this.poll().catch(() => {})); // the next poll says what is wrong
        this.follow("");
    }

    /** Shows the log of this run from now on. */
    follow(id) {
        this.id = id;
        this.next = null; // the byte from which the next answer is to begin
        this.ended = false;
        this.isEmpty = true; // what is shown is no log
        say(this.text, "");
    }

    /** @param {boolean} ended whether the run is over, and nothing more will come */
    async poll(ended = this.ended) {
        this.ended = ended;
        if (!this.element.open || !this.id || this.asking) return;
        const { id } = this;
        this.asking = true;
        try {
            const found = await api.get(["runs", id, "log"], { after: this.next });
            if (id !== this.id) return;
            this.next = found.next ?? this.next;
            if (found.text) this.#add(found.text);
            else if (!this.text.textContent || this.isEmpty) say(this.text, ended ? TEXTS.monitor.noLogEver : TEXTS.monitor.noLog);
        } finally {
            this.asking = false;
        }
    }

    #add(text) {
        const atEnd = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 30;
        const before = this.isEmpty ? "" : this.text.textContent;
        this.isEmpty = false;
        say(this.text, (before + text).slice(-MOST));
        if (atEnd) this.text.scrollTop = this.text.scrollHeight;
    }
}
