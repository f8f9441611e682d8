// The report of a run for an issue: copied at once, and shown, so that users see what they are about to send.

import { api } from "../shared/api.js";
import { copied } from "../shared/clipboard.js";
import { button, element, say } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.report;

/** @param {() => string} id returns the run that the button is for at the moment of the click */
export function reportButton(app, id) {
    const pressed = async (event) => {
        const made = event.currentTarget;
        made.disabled = true;
        try {
            const { text } = await api.get(["runs", id(), "report"], {}, 30_000);
            await showCopied(text);
        } catch (error) {
            app.fail(error);
        } finally {
            made.disabled = false;
        }
    };
    return button(T.copy, pressed, { class: "db-small", title: T.help });
}

async function showCopied(text) {
    const said = element("p", { role: "status" });
    const shown = element("textarea", { class: "db-input db-report", rows: "14", readonly: true, dir: "ltr", spellcheck: "false", "aria-label": T.title });
    shown.value = text;
    const copy = async () => say(said, (await copied(shown)) ? T.copied : T.notCopied);
    const dialog = element(
        "dialog", { class: "db-ask db-wide", "aria-label": T.title },
        element("h3", { class: "db-h", text: T.title }), said, element("p", { class: "db-quiet", text: T.about }), shown,
        element("div", { class: "db-row" }, button(T.again, copy), button(T.close, () => dialog.close(), { class: "db-primary" })),
    );
    dialog.addEventListener("keydown", (event) => event.stopPropagation()); // the WebUI has keys of its own
    dialog.addEventListener("close", () => dialog.remove());
    (document.querySelector(".db-page") || document.body).append(dialog);
    dialog.showModal();
    shown.setSelectionRange(0, 0); // else its end is what one sees first
    shown.scrollTop = 0;
    await copy();
}
