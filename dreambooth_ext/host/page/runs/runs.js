// The Runs view: the queue, and every run with its state, notes, size and a picture, and what can be done with it.

import { address, api } from "../shared/api.js";
import { picturesToTake } from "./changed.js";
import { button, element, fill, memory, say, show, sureButton, uniqueId } from "../shared/dom.js";
import { DiskBar } from "./disk.js";
import { doing } from "../shared/doing.js";
import { baseName, duration, moment, number, size, withRemedy } from "../shared/format.js";
import { modelRow } from "./models.js";
import { Notes } from "./notes.js";
import { phrase, plain } from "../shared/phrase.js";
import { Queue } from "./queue.js";
import { reportButton } from "./report.js";
import { settingsButton } from "./settings.js";
import { ALIVE, ENDED, badge, stateOf } from "../shared/status.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.runs;
const MORE = 500; // steps: the guide's round of going on

// What the list can be ordered by: which of two runs comes first.
const SORTS = {
    newest: (a, b) => (a.id < b.id ? 1 : -1),
    oldest: (a, b) => (a.id < b.id ? -1 : 1),
    name: (a, b) => (a.name || a.id).localeCompare(b.name || b.id) || (a.id < b.id ? 1 : -1),
    size: (a, b) => (b.size || 0) - (a.size || 0),
    time: (a, b) => (b.seconds || 0) - (a.seconds || 0),
};

export class Runs {
    /** @param {object} app `state`, `host`, `go(view, id)`, `fail(error)`, `tell(text)` */
    constructor(app) {
        this.app = app;
        this.cards = new Map();
        this.known = new Map(); // id -> run
        this.revision = "";
        this.queue = new Queue(app);
        this.empty = element("p", { class: "db-quiet", hidden: true });
        this.total = element("span", { class: "db-quiet" });
        this.list = element("ul", { class: "db-runs" });
        this.element = element(
            "div", { class: "db-stack" }, this.queue.element,
            element("section", { class: "db-card", "aria-label": T.title }, element("div", { class: "db-row db-spread" }, element("h3", { class: "db-h", text: T.title }), this.total), this.#finding(), this.empty, this.list),
        );
    }

    /** What chooses and orders the runs that are shown; the order is remembered. */
    #finding() {
        const again = () => this.refresh(this.#all());
        this.search = element("input", { type: "search", class: "db-input db-search", placeholder: T.search, "aria-label": T.search, on: { input: again, keydown: (event) => event.stopPropagation() } });
        this.starred = element("input", { type: "checkbox", on: { change: again } });
        this.sort = element("select", { class: "db-input db-inline", "aria-label": T.order, title: T.order, on: { change: () => (memory.write("order", this.sort.value), again()) } },
            Object.keys(SORTS).map((name) => element("option", { value: name, text: T.orders[name] })));
        const remembered = memory.read("order", "newest");
        this.sort.value = remembered in SORTS ? remembered : "newest";
        this.finding = element("div", { class: "db-row", hidden: true }, this.search, this.sort, element("label", { class: "db-check" }, this.starred, element("span", { text: T.onlyStarred })));
        return this.finding;
    }

    /** Newest first. */
    #all() {
        return [...this.known.values()].sort(SORTS.newest);
    }

    /** Whether a run is looked for: by each word that is searched, as core/runs/run_list.py does it. */
    #fits(run) {
        const text = [run.id, run.name, run.method, TEXTS.methods[run.method], run.words, run.base, run.note].join(" ").toLowerCase();
        return (run.starred || !this.starred.checked) && this.search.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
    }

    async poll() {
        if (this.polling) return;
        this.polling = true;
        try {
            this.#take(await api.get(["runs"], { since: this.revision }, 30_000));
            const runs = this.#all();
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
        const found = runs.filter((run) => this.#fits(run)).sort(SORTS[this.sort.value]);
        const most = Math.max(0, ...runs.map((run) => run.size || 0));
        show(this.finding, runs.length > 1);
        show(this.empty, found.length === 0);
        say(this.empty, runs.length ? T.noMatch : T.none);
        const all = runs.reduce((sum, run) => sum + (run.size || 0), 0);
        fill(this.total, runs.length ? phrase(T.total, { size: size(all) }) : null);
        const ids = new Set(runs.map((run) => run.id));
        for (const [id, card] of this.cards) if (!ids.has(id)) (card.element.remove(), this.cards.delete(id));
        for (const run of runs) {
            if (!this.cards.has(run.id)) this.cards.set(run.id, new RunCard(this.app, run, () => this.poll().catch((error) => this.app.fail(error))));
            this.cards.get(run.id).refresh(run, most);
        }
        const shown = new Set(found.map((run) => this.cards.get(run.id).element));
        for (const card of [...this.list.children]) if (!shown.has(card)) card.remove();
        [...shown].forEach((card, place) => {
            if (this.list.children[place] !== card) this.list.insertBefore(card, this.list.children[place] || null);
        });
    }
}

class RunCard {
    constructor(app, run, changed) {
        Object.assign(this, { app, changed });
        this.picture = element("div", { class: "db-run-picture", "aria-hidden": "true" });
        this.title = button("", () => app.go("monitor", run.id), { class: "db-link db-run-name", title: T.watch });
        this.badge = element("span", { class: "db-badge" });
        this.notes = new Notes(app, run.id, changed);
        this.inHost = element("span", { class: "db-badge db-in-host", text: T.inHost, hidden: true });
        this.verdict = element("span", { class: "db-badge db-verdict-badge", hidden: true, title: TEXTS.verdict.title });
        this.disk = new DiskBar();
        this.about = element("p", { class: "db-quiet" });
        this.problem = element("p", { class: "db-problem", hidden: true });
        this.actions = element("div", { class: "db-row" });
        this.element = element(
            "li", { class: "db-run", data: { run: run.id } }, this.picture,
            element("div", { class: "db-run-body" }, element("div", { class: "db-row" }, this.notes.star, this.title, this.badge, this.verdict, this.inHost), this.about, this.notes.text, this.notes.form, this.disk.element, this.problem, this.actions),
        );
    }

    /** @param {number} most bytes of the largest run */
    refresh(run, most) {
        this.notes.refresh({ ...run, name: run.name || run.id });
        this.disk.refresh(run.sizes, most);
        show(this.verdict, Boolean(run.verdict));
        say(this.verdict, TEXTS.verdict.states[run.verdict] || "");
        this.verdict.dataset.state = run.verdict || "";
        show(this.inHost, run.in_host?.length > 0);
        this.inHost.title = (run.in_host || []).join("\n");
        say(this.title, run.name || run.id);
        badge(this.badge, stateOf(run, this.app.state || {}));
        this.#showPicture(run);
        const about = [
            TEXTS.methods[run.method] || run.method, phrase(run.total ? T.stepsOf : T.steps, { step: number(run.step), total: number(run.total) }),
            run.seconds ? phrase(T.taken, { time: duration(run.seconds) }) : null, run.size ? size(run.size) : null, run.created ? moment(run.created) : null,
            run.base || null, run.states_deleted ? element("span", { text: T.statesDeleted }) : null,
        ].filter(Boolean);
        const key = JSON.stringify([run.step, run.total, run.size, run.status, run.seconds, run.states_deleted]);
        if (this.key !== key) fill(this.about, about.flatMap((part, i) => [i ? " · " : null, typeof part === "string" ? element("span", { class: "db-value", text: part }) : part]));
        this.key = key;
        const problem = [...ENDED, "damaged"].includes(run.status) ? run.problem : null; // a done run: to train it longer was refused
        say(this.problem, problem ? withRemedy(problem) : "");
        show(this.problem, Boolean(problem));
        const state = `${run.status} ${run.step === 0} ${run.states_deleted} ${ENDED.includes(run.status) ? run.sizes?.checkpoints : ""}`; // a running run's grow, and no button shows them
        if (this.state !== state) fill(this.actions, runActions(this.app, run, { notes: this.notes, changed: this.changed }));
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

/** The buttons for a run that does not train now. `here`: it is the Monitor's, which needs no way to it, and no `notes`. */
export function runActions(app, run, { here = false, notes = null, changed = () => {} } = {}) {
    const status = run.status;
    const act = (text, help, work, about = {}) => button(text, (event) => doing(app, event.currentTarget, work, changed), { class: "db-small", title: help, ...about });
    const command = (name, given = {}) => () => api.post(["runs", run.id, "commands"], { command: name, ...given });
    const stopped = status === "stopped" || status === "failed";
    const canGoOn = !run.states_deleted;
    return [
        here ? null : button(T.watch, () => app.go("monitor", run.id), { class: "db-small" }),
        status === "queued" ? act(T.cancel, T.cancelHelp, command("stop")) : null,
        stopped && canGoOn ? act(T.resume, T.resumeHelp, () => goOn(app, run, command, "resume"), { class: "db-small db-primary" }) : null,
        ["done", "stopped"].includes(status) && canGoOn ? continueButton(app, run, command) : null,
        status === "damaged" ? null : act(T.duplicate, T.duplicateHelp, () => useSettings(app, run)),
        ALIVE.includes(status) || here || run.step === 0 || run.method === "unconditional" ? null : modelsButton(app, run),
        status === "damaged" ? null : settingsButton(app, run),
        notes?.edit,
        here ? null : reportButton(app, () => run.id),
        app.host?.restricted || app.host?.can_open === false ? null : act(T.open, T.openHelp, () => api.post(["runs", run.id, "open"])),
        ALIVE.includes(status) || status === "damaged" || run.step === 0 || run.method === "unconditional" ? null
            : act(TEXTS.comparing.fromRun, TEXTS.comparing.fromRunHelp, () => app.comparing.take(run)),
        here || !ENDED.includes(status) || !run.sizes?.checkpoints ? null : statesButton(app, run, changed),
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

/** Fills the form with a run's settings, under a new name, and with what is to change. */
export async function useSettings(app, run, changes = {}) {
    const found = await api.get(["runs", run.id, "config"]);
    const { runs = [] } = await api.get(["runs"], {}, 30_000);
    const taken = [...runs.map((one) => one.name), ...(app.host?.bases || []).map((base) => stem(base.path))];
    const config = found.config || found;
    const name = freshName(config.name || run.name || "", taken);
    app.form.take({ ...config, ...changes, name });
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

/** Frees what a run needs to go on, and keeps what it made. */
function statesButton(app, run, changed) {
    const freed = size(run.sizes.checkpoints);
    const work = async () => {
        const done = await api.delete(["runs", run.id, "states"], { timeout: 120_000 });
        app.tell(plain(T.freed, { size: size(done.freed) }), run.name || run.id);
    };
    return sureButton(T.deleteStates, plain(T.deleteStatesSure, { size: freed }), () => doing(app, null, work, changed), { class: "db-small", title: plain(T.deleteStatesHelp, { size: freed }) });
}

/** "Models" lists what the run made; each goes into the WebUI's folders and out of them again. */
function modelsButton(app, run) {
    const list = element("ul", { class: "db-models", hidden: true });
    const fetched = async () => {
        try {
            const { artifacts = [] } = await api.get(["runs", run.id, "artifacts"]);
            const rows = artifacts.slice().reverse().map((one) => modelRow(app, run.id, one, { changed: fetched }));
            fill(list, rows.length ? rows : element("li", { class: "db-quiet", text: T.noModels }));
        } catch (error) {
            fill(list, element("li", { class: "db-problem", text: withRemedy(error) }));
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
