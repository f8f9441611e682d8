// The settings of a run, to read: by their labels, in the form's groups.

import { api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, openDialog, show } from "../shared/dom.js";
import { plain } from "../shared/phrase.js";
import { settingText } from "../shared/setting_text.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.runSettings;

/** @param {object} app `schema`, `fail(error)` */
export function settingsButton(app, run) {
    const work = async () => showSettings(app.schema, run, await api.get(["runs", run.id, "config"]));
    return button(T.show, (event) => doing(app, event.currentTarget, work), { class: "db-small", title: T.help });
}

function showSettings(schema, run, config) {
    const isDefault = (one) => JSON.stringify(config[one.name] ?? null) === JSON.stringify(one.default);
    const groups = schema.groups.map((group) => {
        const used = group.settings.filter((one) => one.name in config && one.methods.includes(config.method));
        const rows = used.map((one) => {
            const differs = one.name === "method" || !isDefault(one);
            const pair = [element("dt", { text: one.label, title: one.help }), element("dd", { class: differs ? "db-strong" : "", text: settingText(one, config[one.name]) })];
            return { pair, differs };
        });
        const shown = element("section", {}, element("h4", { class: "db-h", text: group.title || group.name }), element("dl", { class: "db-facts" }, rows.map((row) => row.pair)));
        return { shown, rows };
    }).filter((group) => group.rows.length);
    const all = element("input", { type: "checkbox", on: { change: () => choose() } });
    const choose = () => groups.forEach(({ shown, rows }) => {
        rows.forEach(({ pair, differs }) => pair.forEach((node) => show(node, differs || all.checked)));
        show(shown, all.checked || rows.some((row) => row.differs));
    });
    const title = plain(T.of, { name: run.name || run.id });
    choose();
    const dialog = openDialog(
        title, { class: "db-wide" },
        element("label", { class: "db-check" }, all, element("span", { text: T.all })),
        element("div", { class: "db-run-settings" }, groups.map((group) => group.shown)),
        element("div", { class: "db-row" }, button(T.close, () => dialog.close(), { class: "db-primary" })),
    );
}
