// The verdict on a finished run: which model to keep, why, the pictures that show it, and what to change next.

import { address, api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, fill, memory, show, uniqueId } from "../shared/dom.js";
import { capital, duration, moment, number } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { useSettings } from "../runs/runs.js";
import { Plot } from "../plot/plot.js";
import { scoreLines, scores } from "./scores.js";
import { settingText } from "../shared/setting_text.js";
import { ENDED } from "../shared/status.js";
import { TEXTS } from "../shared/texts.js";
import { Viewer } from "../monitor/viewer.js";
import { voteBlindly } from "../compare/votes.js";

const T = TEXTS.verdict;
const LONG = 120_000; // milliseconds: a checkpoint is copied, or loaded
const [SMALL, LARGE] = [256, 768]; // pixels
const RUNNING = ["starting", "running"];

export class Verdict {
    /** @param {object} app `state`, `host`, `schema`, `go(view)`, `pollNow()`, `fail(error)`, `tell(text)` */
    constructor(app) {
        this.app = app;
        this.run = null;
        this.content = element("div", { class: "db-stack" });
        this.element = element("section", { class: "db-card db-verdict", "aria-label": T.title, hidden: true }, this.content);
    }

    /**
     * Fetches the verdict where something may have changed.
     * @param {object} run as GET runs/{id}
     * @param {any} mark changes with the run's models, and where they are
     */
    async refresh(run, mark) {
        const { job } = this.app.state || {};
        const going = job?.kind === "verdict" && job.of === run.id && RUNNING.includes(job.state) ? job : null;
        const fits = ENDED.includes(run.status) && run.status !== "damaged";
        if (this.run?.id !== run.id) this.#forget();
        this.run = run;
        const key = JSON.stringify([run.id, run.status, mark, Boolean(going), this.app.state?.jobs_ended]);
        if (!fits) {
            show(this.element, false);
            this.key = "";
            return;
        }
        if (key !== this.key) {
            this.key = key;
            try {
                const [told, { artifacts = [] }] = await Promise.all([api.get(["runs", run.id, "verdict"]), api.get(["runs", run.id, "artifacts"])]);
                if (key !== this.key) return;
                Object.assign(this, { told, artifacts });
                this.drawn = "";
            } catch (error) {
                this.key = "";
                throw error;
            }
        }
        if (this.told) this.#draw(going);
    }

    #forget() {
        Object.assign(this, { told: null, artifacts: [], chosen: null, key: "", drawn: "" });
        show(this.element, false);
    }

    #again() {
        this.key = "";
        this.app.pollNow();
    }

    #draw(going) {
        const key = JSON.stringify([going && [going.stage, going.done, going.total, going.left], this.chosen, this.app.state?.job?.of]);
        show(this.element, this.artifacts.length > 0 || Boolean(this.told.verdict));
        if (this.drawn === key) return;
        this.drawn = key;
        const { verdict } = this.told;
        const hadFocus = this.content.contains(document.activeElement) ? document.activeElement.dataset.keep : "";
        fill(this.content, element("div", { class: "db-row db-spread" }, element("div", { class: "db-row" }, element("h3", { class: "db-h", text: T.title }), element("span", { class: "db-quiet", text: verdict ? madeAt(verdict) : "" })), this.#judging(going, verdict)), this.#trouble(going), this.#whoJudges(going), verdict ? this.#verdict(verdict) : this.#nothing(going));
        if (hadFocus) this.content.querySelector(`[data-keep="${hadFocus}"]`)?.focus();
    }

    // --- judging

    #judging(going, verdict) {
        if (going) {
            const bar = element("progress", { class: "db-progress db-short-bar", max: "1", "aria-label": T.judging });
            if (going.total) bar.value = going.done / going.total;
            return element("div", { class: "db-row" }, bar, element("span", { class: "db-quiet", role: "status" }, this.#stage(going)), button(T.stop, (event) => doing(this.app, event.currentTarget, () => api.delete(["job"])), { class: "db-small", data: { keep: "stop" } }));
        }
        const judge = (steps_only) => (event) => doing(this.app, event.currentTarget, () => api.post(["runs", this.run.id, "verdict"], { steps_only, judge: this.model.value.trim() }), () => this.#again());
        return element(
            "div", { class: "db-row" },
            button(verdict ? T.again : T.judge, judge(false), { class: verdict ? "db-small" : "db-small db-primary", title: T.help, data: { keep: "judge" } }),
            button(T.quick, judge(true), { class: "db-small", title: T.quickHelp, data: { keep: "quick" } }),
        );
    }

    /** Who judges likeness; folded away where that is the base. */
    #whoJudges(going) {
        if (!this.who) {
            const id = uniqueId("judge");
            const value = memory.read("judge", this.app.host?.options?.judge_model || "");
            this.model = element("input", { id, type: "text", class: "db-input", value, spellcheck: "false", autocomplete: "off", on: { change: () => memory.write("judge", this.model.value.trim()) } });
            this.who = element("details", { class: "db-verdict-judge", open: Boolean(value) }, element("summary", { class: "db-quiet" }, element("label", { for: id, text: T.model })), this.model, element("p", { class: "db-quiet", text: T.modelAbout }));
        }
        show(this.who, !going);
        return this.who;
    }

    /** What is done just now, how far it is, and how long that will take. */
    #stage({ stage, done, total, left }) {
        const name = capital(stage || "");
        if (!total) return name ? `${name} …` : T.judging;
        const far = phrase(T.judgingOf, { stage: name || T.title, done: number(done), total: number(total) });
        return done < total && Number.isFinite(left) ? [far, " · ", phrase(T.left, { time: duration(left) })] : far;
    }

    #trouble(going) {
        const { job, is_old: isOld } = this.told;
        if (!going && job?.state === "failed") return element("p", { class: "db-problem", text: `${T.failed} ${job.problem}` });
        if (!going && job?.state === "stopped" && !job.automatic) return element("p", { class: "db-quiet", text: T.stopped });
        return isOld ? element("p", { class: "db-warn-text", text: T.old }) : null;
    }

    #nothing(going) {
        const isSoon = !going && !this.told.job && this.app.host?.options?.judge && ["done", "stopped"].includes(this.run.status) && this.app.now() - (this.run.heartbeat || 0) < 600;
        return element("p", { class: "db-quiet", text: isSoon ? `${T.none} ${T.soon}` : T.none });
    }

    // --- what it says

    #verdict(verdict) {
        const { checkpoints = [], recommended } = verdict;
        const chosen = checkpoints.find((one) => one.step === this.chosen) || checkpoints.find((one) => one.step === recommended?.step) || checkpoints.at(-1);
        return [
            element("p", { class: "db-verdict-sentence", text: verdict.sentence }),
            recommended ? this.#keeping(recommended) : null,
            checkpoints.length ? element("div", { class: "db-verdict-steps", role: "group", "aria-label": T.steps }, checkpoints.map((one) => this.#step(one, one === chosen, one.step === recommended?.step))) : null,
            chosen ? element("div", { class: "db-verdict-chosen" }, this.#about(chosen), scores(chosen, verdict.base)) : null,
            this.#proof(verdict),
            this.#next(verdict),
            this.#trust(verdict),
            this.#byStep(verdict),
        ];
    }

    /** The recommended model, with one press into the WebUI. */
    #keeping(recommended) {
        const model = this.artifacts.find((one) => one.file === recommended.file);
        if (!model || model.kind === "unconditional") return null; // deleted meanwhile; no WebUI loads these
        const selects = model.kind === "checkpoint";
        if (model.published && (model.selected || !selects)) return element("p", { class: "db-good-text", text: model.selected ? T.isSelected : T.isIn });
        const put = (event) => doing(this.app, event.currentTarget, async () => {
            const made = await api.post(["runs", this.run.id, "publish"], { artifact: model.file, select: selects }, LONG);
            if (selects && !made.selected) this.app.tell(TEXTS.models.publishedNow, made.path); // why, is a warning of the run
        }, () => this.#again());
        return element("div", { class: "db-row" }, button(selects ? T.publishAndSelect : T.publish, put, { class: "db-primary", data: { keep: "put" } }), element("span", { class: "db-quiet", text: model.file }));
    }

    #step(one, isChosen, isKept) {
        return element(
            "button", {
                type: "button", class: "db-verdict-step", "aria-pressed": String(isChosen), title: capital(one.sentence || ""), data: { state: one.state, keep: `step${one.step}` },
                on: { click: () => ((this.chosen = one.step), (this.drawn = ""), this.#draw(null), this.app.pollNow()) },
            },
            element("b", {}, phrase(T.step, { step: number(one.step) })), element("span", { text: T.states[one.state] || one.state }), isKept ? element("span", { class: "db-verdict-keep", text: T.keep }) : null, this.told.votes?.[one.file] ? element("span", { class: "db-quiet", text: plain(T.votes, this.told.votes[one.file]) }) : null,
        );
    }

    /** All scores over the steps; folded away at first. */
    #byStep(verdict) {
        const lines = scoreLines(verdict);
        if (!lines.length) return null;
        this.plot ||= new Plot({ title: T.scores, file: "scores" });
        this.plot.name = this.run.name;
        this.plot.set(lines);
        const details = element("details", { open: Boolean(this.isUnfolded) }, element("summary", { class: "db-quiet", data: { keep: "scores" }, text: T.curves }), this.plot.element);
        details.addEventListener("toggle", () => (this.isUnfolded = details.open));
        return details;
    }

    #about(chosen) {
        const weight = Number.isFinite(chosen.weight) && chosen.weight !== 1 ? plain(T.weight, { weight: chosen.weight }) : "";
        return [element("p", { text: capital(chosen.sentence || "") }), weight ? element("p", { class: "db-quiet", text: weight }) : null];
    }

    // --- the pictures

    #url(file, query = {}) {
        return address(["runs", this.run.id, "verdict", "pictures", file], { ...query, t: this.told.verdict.made });
    }

    #proof({ proof = [], pictures = [] }) {
        const canVote = new Set(pictures.map((one) => one.step).filter((step) => step > 0)).size > 1;
        if (!proof.length && !canVote) return null;
        return element(
            "div", { class: "db-stack" },
            element("div", { class: "db-row db-spread" }, element("h4", { class: "db-label", text: T.proof }), canVote ? button(T.vote, () => this.#vote(), { class: "db-small", title: TEXTS.comparing.voteHelp, data: { keep: "vote" } }) : null),
            element("div", { class: "db-proof" }, proof.map((one, place) => element(
                "figure", { class: one.nearest ? "db-proof-pair" : "" },
                element("button", { type: "button", class: "db-proof-pictures", title: T.enlarge, "aria-label": `${T.enlarge}: ${one.prompt}`, on: { click: () => this.#open(place) } }, [one.file, one.nearest].filter(Boolean).map((file) => element("img", { src: this.#url(file, { size: SMALL }), alt: "", loading: "lazy" }))),
                element("figcaption", {}, element("span", { text: one.caption || one.prompt }), one.nearest ? element("span", { class: "db-quiet", text: ` · ${T.nearest}` }) : null),
            ))),
        );
    }

    /** Made when a picture is enlarged first. */
    get #viewer() {
        if (!this.made) {
            this.made = new Viewer({ onStep: (rows, columns) => this.#open(this.opened + (rows || columns)), earlier: T.previous, later: T.following, title: T.proof });
            this.element.append(this.made.element);
        }
        return this.made;
    }

    #open(place) {
        const one = this.told.verdict.proof[place];
        if (!one) return;
        this.opened = place;
        const pictures = [{ url: this.#url(one.file, { size: LARGE }), alt: one.prompt, label: plain(T.drawn, { step: number(one.step) }) }];
        if (one.nearest) pictures.push({ url: this.#url(one.nearest, { size: LARGE }), alt: T.nearest, label: T.nearest });
        const caption = [element("span", { text: one.prompt }), one.caption && one.caption !== one.prompt ? [" · ", element("span", { text: one.caption })] : null];
        this.#viewer.show(pictures, caption, { prompt: one.prompt, sends: false });
    }

    #vote() {
        const { pictures = [], checkpoints = [] } = this.told.verdict;
        const weights = new Map(checkpoints.map((one) => [one.step, one.weight ?? 1])); // each model at its best
        const known = pictures.filter((one) => weights.has(one.step) && (one.weight ?? weights.get(one.step)) === weights.get(one.step));
        voteBlindly({
            app: this.app,
            pictures: known.map((one) => ({ model: one.step, prompt: one.prompt, seed: one.seed, url: this.#url(one.file), text: one.prompt })),
            nameOf: (step) => plain(T.step, { step: number(step) }),
            send: (vote) => api.post(["runs", this.run.id, "verdict", "votes"], vote),
            counted: ({ votes }) => checkpoints.filter((one) => votes[one.file]).map((one) => [one.step, votes[one.file]]),
            changed: () => this.#again(),
        });
    }

    // --- what follows

    #next({ next_run: changes = {}, next_run_sentence: sentence = "" }) {
        const names = Object.keys(changes || {});
        if (!names.length && !sentence) return null;
        const settings = new Map(this.app.schema.groups.flatMap((group) => group.settings).map((one) => [one.name, one]));
        const told = names.filter((name) => settings.has(name)).map((name) => [settings.get(name), changes[name]]);
        const go = (event) => doing(this.app, event.currentTarget, () => useSettings(this.app, this.run, changes));
        return element(
            "div", { class: "db-verdict-next" }, element("h4", { class: "db-label", text: T.next }), element("p", { text: sentence }),
            told.length ? element("dl", { class: "db-facts" }, told.map(([one, given]) => [element("dt", { text: one.label, title: one.help }), element("dd", { text: settingText(one, given) })])) : null,
            names.length ? element("div", { class: "db-row" }, button(T.tryThis, go, { class: "db-small", title: T.tryHelp, data: { keep: "try" } })) : null,
        );
    }

    #trust({ trust, judge }) {
        const says = [trust?.sentence ? `${T.trust}: ${trust.sentence}` : "", judge?.sentence || ""].filter(Boolean);
        return says.length ? element("p", { class: "db-quiet", text: says.join(" ") }) : null;
    }
}

/** When it was judged. */
function madeAt(verdict) {
    const seconds = new Date(verdict.made || NaN).getTime() / 1000;
    return Number.isFinite(seconds) ? plain(T.made, { when: moment(seconds) }) : "";
}
