// What a compared model is called, and what can be done with it.

import { api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, sureButton } from "../shared/dom.js";
import { calling, hasTxt2img, sendToTxt2img } from "../host/txt2img.js";
import { number } from "../shared/format.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.comparing;
const M = TEXTS.models;
const LONG = 120_000; // milliseconds: a checkpoint is copied, or loaded
const METHODS = { lora: "lora", hypernetwork: "hypernetwork" }; // kinds that a prompt calls -> as txt2img.js has them

/** @param {object} model one of a comparison's `models` */
export function nameOf(model) {
    if (model.name === "base") return `${T.baseName}: ${model.file}`;
    const own = model.run ? [model.run_name || model.run, plain(T.step, { step: number(model.step) })] : [model.file];
    if (Number.isFinite(model.weight)) own.push(plain(T.weight, { weight: model.weight }));
    return own.join(" · ");
}

/** What a comparison is called: its own name, else its runs with their steps, and its files. @param {object} told of the API */
export function titleOf(told) {
    if (told.name) return told.name;
    const groups = new Map();
    for (const model of told.models.slice(1)) {
        const key = model.run || model.file;
        if (!groups.has(key)) groups.set(key, { label: model.run ? model.run_name || model.run : model.file, steps: new Set() });
        if (model.run) groups.get(key).steps.add(number(model.step));
    }
    return [...groups.values()].map(({ label, steps }) => (steps.size ? `${label} · ${plain(T.step, { step: [...steps].join(", ") })}` : label)).join("; ");
}

/** The count of its votes, "" without. */
export function votesOf(model) {
    return model.votes ? plain(T.votes, model.votes) : "";
}

/**
 * The buttons for a picture's model, as they are in the lists of models.
 * @param {object} app `fail(error)`, `tell(text, detail)`
 * @param {object} model of a comparison
 * @param {string} prompt of the picture
 * @param {() => void} leave closes what the buttons are in
 */
export async function modelActions(app, model, prompt, leave) {
    const found = model.run ? await artifactOf(model) : null;
    const send = hasTxt2img() ? button(T.send, () => (leave(), toTxt2img(app, model, found, prompt)), { class: "db-small" }) : null;
    if (!model.run) return [send];
    if (!found) return [send, element("span", { class: "db-quiet", text: T.modelGone })];
    const put = (select) => (event) => doing(app, event.currentTarget, async () => {
        const made = await api.post(["runs", model.run, "publish"], { artifact: model.artifact, select }, LONG);
        if (select && !made.selected) app.tell(M.publishedNow, made.path); // why, is a warning of the run
        leave();
    });
    const remove = () => doing(app, null, async () => {
        await api.delete(["runs", model.run, "artifacts", model.artifact]);
        app.tell(T.modelDeleted, model.artifact);
        leave();
    });
    const selects = found.kind === "checkpoint" && !found.selected;
    return [
        found.published ? element("span", { class: "db-good-text", text: found.selected ? M.selected : M.published }) : button(M.put, put(false), { class: "db-small", title: M.putHelp }),
        selects ? button(found.published ? M.select : M.putAndSelect, put(true), { class: "db-small db-primary" }) : null,
        send,
        sureButton(T.deleteModel, plain(T.deleteModelSure, { file: model.artifact }), remove, { class: "db-small", title: T.deleteModelHelp }),
    ];
}

async function artifactOf(model) {
    try {
        const { artifacts = [] } = await api.get(["runs", model.run, "artifacts"]);
        return artifacts.find((one) => one.file === model.artifact) || null;
    } catch (error) {
        if (error.status === 404) return null; // the run has been deleted
        throw error;
    }
}

function toTxt2img(app, model, found, prompt) {
    const name = found?.name || model.file.replace(/\.[^.]*$/, "");
    sendToTxt2img({ prompt: calling(prompt, METHODS[model.kind], model.name === "base" ? "" : name, model.weight ?? 1) });
    app.tell(TEXTS.monitor.sent);
}
