// The Runs view: the queue, and every run with its state, size, a picture and its buttons.

import { address, api } from "../shared/api.js";
import { picturesToTake } from "./changed.js";
import { button, element, fill, say, show, sureButton, uniqueId } from "../shared/dom.js";
import { baseName, moment, number, size } from "../shared/format.js";
import { modelRow } from "./models.js";
import { phrase } from "../shared/phrase.js";
import { Queue } from "./queue.js";
import { reportButton } from "./report.js";
import { ALIVE, ENDED, badge, stateOf } from "../shared/status.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.runs;
const MORE = 500; // steps: the guide's round of going on

export class Runs {
    /** @param {object} app `state`, `host`, `go(view, id)`, `fail(error)`, `tell(text)` */
    constructor(app) {
        this.app = app;
        this.cards = new Map();
        this.known = new Map(); // id -> run
        this.revision = "";
        this.queue = new Queue(app);
        this.empty = element("p", { class: "db-quiet", text: T.none, hidden: true });
        this.total = element("span", { class: "db-quiet" });
        this.list = element("ul", { class: "db-runs" });
        this.element = element(
            "div", { class: "db-stack" }, this.queue.element,
            element("section", { class: "db-card", "aria-label": T.title }, element("div", { class: "db-row db-spread" }, element("h3", { class: "db-h", text: T.title }), this.total), this.empty, this.list),
        );
    }

    async poll() {
        if (this.polling) return;
        this.polling = true;
        try {
            this.#take(await api.get(["runs"], { since: this.revision }, 30_000));
            const runs = [...this.known.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
            this.app.newest = runs[0]?.id || "";
            this.refresh(runs);
        } finally {
            this.polling = false;
        }
    }

    /** Applies what has changed since the last answer; after a server restart, the answer has everything. */
    #take({ runs = [], gone = [], revision = "" }) {
        const life = (text) => text.split("-")[0];
        if (life(revision) !== life(this.revision)) this.known.clear();
        this.revision = revision;
        for (const id of gone) this.known.delete(id);
        for (const run of runs) this.known.set(run.id, run);
    }

    refresh(runs) {
        this.queue.refresh(this.app.state?.queue || [], runs);
        show(this.empty, runs.length === 0);
        const all = runs.reduce((sum, run) => sum + (run.size || 0), 0);
        fill(this.total, runs.length ? phrase(T.total, { size: size(all) }) : null);
        const ids = new Set(runs.map((run) => run.id));
        for (const [id, card] of this.cards) if (!ids.has(id)) (card.element.remove(), this.cards.delete(id));
        runs.forEach((run, place) => {
            if (!this.cards.has(run.id)) this.cards.set(run.id, new RunCard(this.app, run, () => this.poll().catch((error) => this.app.fail(error))));
            const card = this.cards.get(run.id);
            card.refresh(run);
            if (this.list.children[place] !== card.element) this.list.insertBefore(card.element, this.list.children[place] || null);
        });
    }
}

class RunCard {
    constructor(app, run, changed) {
        Object.assign(this, { app, changed });
        this.picture = element("div", { class: "db-run-picture", "aria-hidden": "true" });
        this.title = button("", () => app.go("monitor", run.id), { class: "db-link db-run-name", title: T.watch });
        this.badge = element("span", { class: "db-badge" });
        this.about = element("p", { class: "db-quiet" });
        this.problem = element("p", { class: "db-problem", hidden: true });
        this.actions = element("div", { class: "db-row" });
        this.element = element(
            "li", { class: "db-run", data: { run: run.id } }, this.picture,
            element("div", { class: "db-run-body" }, element("div", { class: "db-row" }, this.title, this.badge), this.about, this.problem, this.actions),
        );
    }

    refresh(run) {
        say(this.title, run.name || run.id);
        badge(this.badge, stateOf(run, this.app.state || {}));
        this.#showPicture(run);
        const about = [
            TEXTS.methods[run.method] || run.method, phrase(run.total ? T.stepsOf : T.steps, { step: number(run.step), total: number(run.total) }),
            run.size ? size(run.size) : null, run.created ? moment(run.created) : null,
        ].filter(Boolean);
        const key = JSON.stringify([run.step, run.total, run.size, run.status]);
        if (this.key !== key) fill(this.about, about.flatMap((part, i) => [i ? " · " : null, typeof part === "string" ? element("span", { class: "db-value", text: part }) : part]));
        this.key = key;
        const problem = [...ENDED, "damaged"].includes(run.status) ? run.problem : null; // a done run: to train it longer was refused
        say(this.problem, problem ? `${problem.message} ${problem.remedy || ""}` : "");
        show(this.problem, Boolean(problem));
        const state = `${run.status} ${run.step === 0}`;
        if (this.state !== state) fill(this.actions, runActions(this.app, run, { changed: this.changed }));
        this.state = state;
    }

    #showPicture(run) {
        const sample = run.picture || run.sample;
        const url = !sample ? "" : typeof sample === "string" && /^(\.|\/|https?:)/.test(sample) ? sample
            : address(["runs", run.id, "samples", ...(typeof sample === "string" ? sample.split("/") : [sample.step, sample.file])]);
        if (this.url === url) return;
        this.url = url;
        fill(this.picture, url ? element("img", { src: url, alt: "", loading: "lazy" }) : element("span", { text: (run.name || run.id).slice(0, 2) }));
    }
}

/** The buttons for a run that is not training. `here`: for the Monitor, which needs no button that opens it. */
export function runActions(app, run, { here = false, changed = () => {} } = {}) {
    const status = run.status;
    const act = (text, help, work, about = {}) => button(text, (event) => doing(app, event.currentTarget, work, changed), { class: "db-small", title: help, ...about });
    const command = (name, given = {}) => () => api.post(["runs", run.id, "commands"], { command: name, ...given });
    const stopped = status === "stopped" || status === "failed";
    return [
        here ? null : button(T.watch, () => app.go("monitor", run.id), { class: "db-small" }),
        status === "queued" ? act(T.cancel, T.cancelHelp, command("stop")) : null,
        stopped ? act(T.resume, T.resumeHelp, () => goOn(app, run, command, "resume"), { class: "db-small db-primary" }) : null,
        ["done", "stopped"].includes(status) ? continueButton(app, run, command) : null,
        status === "damaged" ? null : act(T.duplicate, T.duplicateHelp, () => duplicate(app, run)),
        ALIVE.includes(status) || here || run.step === 0 || run.method === "unconditional" ? null : modelsButton(app, run),
        here ? null : reportButton(app, () => run.id),
        app.host?.restricted || app.host?.can_open === false ? null : act(T.open, T.openHelp, () => api.post(["runs", run.id, "open"])),
        ALIVE.includes(status) || status === "queued" ? null
            : sureButton(T.delete, T.deleteSure, () => doing(app, null, () => api.delete(["runs", run.id], { timeout: 120_000 }), changed), { class: "db-small", title: T.deleteHelp }),
    ];
}

/** Resumes or continues a run, after asking which pictures to use if they have changed. */
async function goOn(app, run, command, name, given = {}) {
    const pictures = await picturesToTake(run);
    if (!pictures) return;
    await command(name, { ...given, ...pictures })();
    app.go("monitor", run.id);
}

async function doing(app, pressed, work, changed) {
    if (pressed) pressed.disabled = true;
    try {
        await work();
    } catch (error) {
        app.fail(error);
    } finally {
        if (pressed) pressed.disabled = false;
        changed();
    }
}

async function duplicate(app, run) {
    const found = await api.get(["runs", run.id, "config"]);
    const { runs = [] } = await api.get(["runs"], {}, 30_000);
    const taken = [...runs.map((one) => one.name), ...(app.host?.bases || []).map((base) => stem(base.path))];
    const config = found.config || found;
    const name = freshName(config.name || run.name || "", taken);
    app.form.take({ ...config, name });
    app.go("train");
    app.tell(T.duplicated, name);
}

const stem = (path) => baseName(path).replace(/\.[^.]*$/, "");

/** A name that is not in `taken`: "anna" -> "anna_2" -> "anna_3", so that the older model is kept. */
function freshName(name, taken) {
    const used = new Set(taken.map((one) => String(one).toLowerCase()));
    const [, root, counter] = /^(.*?)(?:_([2-9]|[1-9]\d))?$/.exec(name);
    let count = Number(counter || 1);
    let found = name;
    while (used.has(found.toLowerCase())) found = `${root}_${(count += 1)}`;
    return found;
}

/** "Continue" opens a small form: how many more steps. */
function continueButton(app, run, command) {
    const id = uniqueId("more");
    const steps = element("input", { id, type: "text", inputmode: "numeric", class: "db-input db-short", value: String(MORE) });
    const go = async () => {
        const more = Math.round(Number(steps.value));
        if (!(more > 0)) {
            app.tell(T.moreThanZero);
            steps.focus();
            return;
        }
        await doing(app, null, async () => {
            await goOn(app, run, command, "continue", { max_train_steps: run.step + more });
        }, () => {});
    };
    const box = element(
        "form", { class: "db-row db-inline-form", hidden: true, on: { submit: (event) => (event.preventDefault(), go()) } },
        element("label", { class: "db-label", for: id, text: T.moreSteps }), steps, element("button", { type: "submit", class: "db-button db-small db-primary", text: T.go }),
    );
    const open = button(T.continue, () => {
        show(box, box.hidden);
        open.setAttribute("aria-expanded", String(!box.hidden));
        if (!box.hidden) steps.select();
    }, { class: "db-small", title: T.continueHelp, "aria-expanded": "false" });
    return [open, box];
}

/** "Models" lists a run's models, which can be published into the WebUI's folders and removed again. */
function modelsButton(app, run) {
    const list = element("ul", { class: "db-models", hidden: true });
    const fetched = async () => {
        try {
            const { artifacts = [] } = await api.get(["runs", run.id, "artifacts"]);
            const rows = artifacts.slice().reverse().map((one) => modelRow(app, run.id, one, { changed: fetched }));
            fill(list, rows.length ? rows : element("li", { class: "db-quiet", text: T.noModels }));
        } catch (error) {
            fill(list, element("li", { class: "db-problem", text: `${error.message} ${error.remedy}` }));
        }
    };
    const open = button(T.models, () => {
        show(list, list.hidden);
        open.setAttribute("aria-expanded", String(!list.hidden));
        if (list.hidden) return;
        fill(list, element("li", { class: "db-quiet", text: T.loading }));
        fetched();
    }, { class: "db-small", title: T.modelsHelp, "aria-expanded": "false" });
    return [open, list];
}
