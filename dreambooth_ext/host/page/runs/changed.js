// Before a run is resumed: checks whether its pictures have changed since it was queued, and asks which ones to use.

import { api } from "../shared/api.js";
import { button, element, openDialog } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.changed;
const NAMED = 5; // pictures of each kind

/**
 * Asks the user if something has changed.
 * @returns {Promise<Object|null>} values to send with the command; null: do not resume
 */
export async function picturesToTake(run) {
    const { count, changes } = await api.get(["runs", run.id, "pictures"], {}, 60_000);
    const kinds = Object.entries(changes || {}).filter(([, names]) => names.length);
    if (!kinds.length) return {};
    const canStay = kinds.every(([kind]) => kind === "added" || kind === "recaptioned");
    return new Promise((answer) => {
        const choice = (text, given, about) => button(text, () => (answer(given), dialog.close()), about);
        const dialog = openDialog(
            T.title, {}, element("p", {}, phrase(T.about, { count })),
            element("ul", {}, kinds.map(([kind, names]) => element("li", {}, phrase(T.kinds[kind], { count: names.length }), ": ", named(names)))),
            canStay ? null : element("p", { class: "db-problem", text: T.cannotStay }),
            element(
                "div", { class: "db-row" },
                canStay ? choice(T.stay, {}, { class: "db-primary" }) : null,
                choice(T.take, { new_pictures: true }, canStay ? {} : { class: "db-primary" }),
                choice(T.cancel, null, {}),
            ),
        );
        dialog.addEventListener("close", () => answer(null));
    });
}

function named(names) {
    return `${names.slice(0, NAMED).join(", ")}${names.length > NAMED ? ", …" : ""}`;
}
