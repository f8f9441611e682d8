// A run's models, each with buttons to publish it into the WebUI, select it there, and remove it again.

import { api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, sureButton } from "../shared/dom.js";
import { number, size } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.models;
const LONG = 120_000; // milliseconds: a checkpoint is copied, or loaded

/**
 * @param {object} app `fail(error)`, `tell(text, detail)`
 * @param {string} id of the run
 * @param {object} model as GET artifacts lists it
 * @param {{changed: () => void, uploaded?: string}} about `uploaded`: its address on Hugging Face
 */
export function modelRow(app, id, model, { changed, uploaded = "" }) {
    const isIn = Boolean(model.published);
    return element(
        "li", { class: "db-model", data: { file: model.file } }, element("b", { text: model.file }),
        element("span", { class: "db-quiet" }, phrase(T.about, { step: number(model.step), size: size(model.size) })),
        element("span", { class: isIn ? "db-good-text" : "db-quiet", title: model.published, text: isIn ? (model.selected ? T.selected : T.published) : T.notPublished }),
        uploaded ? element("a", { href: uploaded, target: "_blank", rel: "noreferrer" }, T.uploaded, " ", uploaded) : null,
        model.kind === "unconditional" ? null : actions(app, id, model, changed), // no WebUI loads these
    );
}

function actions(app, id, model, changed) {
    const act = (work, pressed = null) => doing(app, pressed, work, changed);
    const put = (select) => async (event) => act(async () => {
        const made = await api.post(["runs", id, "publish"], { artifact: model.file, select }, LONG);
        if (select && !made.selected) app.tell(T.publishedNow, made.path); // why, is a warning of the run
    }, event.currentTarget);
    const takeOut = () => act(async () => {
        const { path } = await api.post(["runs", id, "unpublish"], { artifact: model.file }, LONG);
        app.tell(T.takenOut, path);
    });
    const selects = model.kind === "checkpoint" && !model.selected;
    return element(
        "span", { class: "db-row" },
        model.published ? null : button(T.put, put(false), { class: "db-small", title: T.putHelp }),
        selects ? button(model.published ? T.select : T.putAndSelect, put(true), { class: "db-small db-primary" }) : null,
        model.published ? sureButton(T.takeOut, T.takeOutSure, takeOut, { class: "db-small", title: T.takeOutHelp }) : null,
    );
}
