// The browser's notifications at the end of a training. The browser is asked for leave only when the switch is used.

import { element, memory } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.notices;

export class Notices {
    /** @param {object} app `tell(text)`, `go(view, id)` */
    constructor(app) {
        this.app = app;
        this.control = element("input", { type: "checkbox", role: "switch", on: { change: () => this.#switched() } });
        this.element = element("label", { class: "db-check db-notices", title: T.help }, this.control, element("span", { text: T.notify }));
        this.control.checked = memory.read("notify", false) === true && this.#isAllowed();
    }

    #isAllowed() {
        return typeof Notification === "function" && Notification.permission === "granted";
    }

    async #switched() {
        if (this.control.checked && !this.#isAllowed()) await this.#ask();
        memory.write("notify", this.control.checked);
    }

    async #ask() {
        const isThere = typeof Notification === "function" && window.isSecureContext;
        const answer = isThere ? await Notification.requestPermission() : "";
        if (answer === "granted") return;
        this.control.checked = false;
        this.app.tell(isThere ? T.forbidden : T.impossible);
    }

    /** Says how a run ended; one notification for each run, however many pages are open. */
    ended(id, title, body = "") {
        if (!this.control.checked || !this.#isAllowed()) return;
        try {
            const notice = new Notification(title, { body, tag: `dreambooth ${id}`, lang: TEXTS.code });
            notice.onclick = () => {
                window.focus();
                this.app.go("monitor", id);
                notice.close();
            };
        } catch { // Chrome on Android has them for service workers only
            this.app.tell(T.impossible);
        }
    }
}
