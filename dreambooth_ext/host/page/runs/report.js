// The report of a run for an issue: copied at once, and shown, so that users see what they are about to send.

import { api } from "../shared/api.js";
import { copied } from "../shared/clipboard.js";
import { doing } from "../shared/doing.js";
import { button, element, openDialog, say } from "../shared/dom.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.report;

/** @param {() => string} id returns the run that the button is for at the moment of the click */
export function reportButton(app, id) {
    const work = async () => {
        const { text } = await api.get(["runs", id(), "report"], {}, 30_000);
        await showCopied(text);
    };
    return button(T.copy, (event) => doing(app, event.currentTarget, work), { class: "db-small", title: T.help });
}

async function showCopied(text) {
    const said = element("p", { role: "status" });
    const shown = element("textarea", { class: "db-input db-report", rows: "14", readonly: true, dir: "ltr", spellcheck: "false", "aria-label": T.title });
    shown.value = text;
    const copy = async () => say(said, (await copied(shown)) ? T.copied : T.notCopied);
    const dialog = openDialog(
        T.title, { class: "db-wide" }, said, element("p", { class: "db-quiet", text: T.about }), shown,
        element("div", { class: "db-row" }, button(T.again, copy), button(T.close, () => dialog.close(), { class: "db-primary" })),
    );
    shown.setSelectionRange(0, 0); // else its end is what one sees first
    shown.scrollTop = 0;
    await copy();
}
