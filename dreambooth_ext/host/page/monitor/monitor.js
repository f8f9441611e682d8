// The Monitor view: one run's progress, and its buttons.

import { api } from "../shared/api.js";
import { button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { calling, sendToTxt2img } from "../host/txt2img.js";
import { Compare } from "./compare.js";
import { Curves } from "./curves.js";
import { Feed } from "./feed.js";
import { Gallery } from "./gallery.js";
import { clock, duration, number, size, speed } from "../shared/format.js";
import { LogView } from "./logview.js";
import { modelRow } from "../runs/models.js";
import { phrase, plain } from "../shared/phrase.js";
import { Previews } from "./previews.js";
import { reportButton } from "../runs/report.js";
import { runActions } from "../runs/runs.js";
import { ALIVE, ENDED, badge, stateOf } from "../shared/status.js";
import { TEXTS } from "../shared/texts.js";
import { Verdict } from "../verdict/verdict.js";

const T = TEXTS.monitor;
const MODELS = 12; // that are listed at first: a run of days has hundreds
const SILENT = 15; // seconds without a heartbeat after which the Monitor says so

export class Monitor {
    /** @param {object} app `state`, `go(view, id)`, `fail(error)`, `tell(text)` */
    constructor(app) {
        this.app = app;
        this.id = "";
        this.run = null;
        this.feed = null;
        this.element = this.#build();
    }

    #build() {
        this.empty = element(
            "section", { class: "db-card db-empty", hidden: true }, element("p", { text: T.none }), button(T.start, () => this.app.go("train"), { class: "db-primary" }),
        );
        this.title = element("h3", { class: "db-h" });
        this.badge = element("span", { class: "db-badge", role: "status" });
        this.stage = element("p", { class: "db-quiet", "aria-live": "polite" });
        this.bar = element("progress", { class: "db-progress db-thick", max: "1", value: "0", "aria-label": T.progress });
        this.facts = element("dl", { class: "db-facts db-figures" });
        this.trouble = element("div", { class: "db-banner db-banner-bad", role: "alert", hidden: true });
        this.other = element("p", { class: "db-quiet", hidden: true });
        this.actions = element("div", { class: "db-actions" });
        this.compare = new Compare(this.app, () => this.feed && (this.#drawCurves(), this.app.pollNow()));
        this.curves = new Curves(this.compare.picker);
        this.previews = new Previews((prompt) => this.#send(prompt));
        this.messages = element("ul", { class: "db-messages" });
        this.messageCard = element("section", { class: "db-card", "aria-label": T.messages, hidden: true }, element("h3", { class: "db-h", text: T.messages }), this.messages);
        this.models = element("ul", { class: "db-models" });
        this.modelCard = element("section", { class: "db-card", "aria-label": T.models, hidden: true }, element("h3", { class: "db-h", text: T.models }), this.models);
        this.gallery = new Gallery(this.app);
        this.verdict = new Verdict(this.app);
        this.log = new LogView();
        this.content = element(
            "div", { class: "db-stack", hidden: true }, this.other,
            element(
                "section", { class: "db-card", "aria-label": T.title },
                element("div", { class: "db-row db-spread" }, element("div", { class: "db-row" }, this.title, this.badge), reportButton(this.app, () => this.id)),
                this.trouble, this.stage, this.bar, this.facts, this.actions,
            ),
            this.messageCard, this.verdict.element,
            this.curves.element, this.previews.element, this.compare.element, this.modelCard, this.gallery.element, this.log.element,
        );
        this.loading = element("p", { class: "db-quiet", role: "status", text: T.loading });
        return element("div", { class: "db-monitor" }, this.loading, this.empty, this.content);
    }

    /** Shows this run from now on; "" follows the run that is training. */
    choose(id) {
        this.wanted = id || "";
        this.#switch(id || this.#following());
    }

    /** The run to show if none was chosen: the active one, else the first in the queue, else the newest. */
    #following() {
        const { active, queue = [] } = this.app.state || {};
        return active?.id || this.id || queue[0]?.id || queue[0] || this.app.newest || "";
    }

    #switch(id) {
        if (id === this.id) return;
        this.id = id;
        this.run = null;
        this.feed = id ? new Feed(id) : null;
        this.log.follow(id);
        this.compare.follow(null);
        this.previews.refresh([]);
        this.previews.subject.follow(id);
        this.curves.clear();
        fill(this.actions);
        this.actionsKey = "";
        this.modelsKey = "";
        this.showsAllModels = false;
        show(this.modelCard, false);
        show(this.previews.element, false);
        show(this.content, false);
    }

    async #follow() {
        const id = this.#following() || (await api.get(["runs"], {}, 30_000)).runs?.[0]?.id || "";
        if (!this.wanted) this.#switch(id); // else one was chosen meanwhile
    }

    /** Updates the view; called every second while it is visible. */
    async poll() {
        if (this.polling) return;
        this.polling = true;
        let { id } = this;
        try {
            if (!this.wanted) await this.#follow();
            show(this.empty, !this.id);
            show(this.loading, Boolean(this.id) && this.content.hidden);
            if (!this.id) return;
            const { feed } = this;
            id = this.id;
            const pulled = feed.pull();
            pulled.catch(() => {}); // told below, unless the state's answer fails first
            this.run = await api.get(["runs", id]);
            if (id !== this.id) return;
            if (this.content.hidden) this.#drawHead(); // a long run's events take longer
            const isNew = [await pulled, await this.compare.poll()].some(Boolean);
            if (id !== this.id) return;
            const { run } = this;
            this.#draw(isNew);
            await this.verdict.refresh(run, this.modelsKey);
            await this.gallery.refresh(run, this.#newestModels(), ALIVE.includes(run.status));
            await this.log.poll(ENDED.includes(run.status));
        } catch (error) {
            if (id === this.id && error.status === 404) this.#gone();
            else throw error;
        } finally {
            this.polling = false;
        }
    }

    #gone() {
        this.wanted = "";
        this.#switch("");
        this.app.newest = "";
        this.app.tell(T.gone);
    }

    #draw(isNew) {
        const { feed } = this;
        this.#drawHead();
        this.#drawModels().catch((error) => this.app.fail(error));
        if (!isNew && this.drawn === feed) return;
        this.drawn = feed;
        if (this.compare.run?.id !== this.run.id) this.compare.follow(this.run);
        this.#drawCurves();
        this.previews.subject.load();
        this.#drawMessages();
    }

    /** Shows what depends on the run's state alone. */
    #drawHead() {
        const { run } = this;
        show(this.content, true);
        show(this.loading, false);
        say(this.title, run.name || run.id);
        this.title.title = run.id;
        badge(this.badge, stateOf(run, this.app.state || {}));
        this.#drawOther();
        this.#drawTrouble();
        this.#drawStage();
        this.#drawFacts();
        this.#drawActions();
    }

    #drawCurves() {
        const { feed } = this;
        const shown = this.compare.shown(feed);
        this.curves.refresh(shown);
        const any = feed.steps.length > 0 || feed.validation.steps.length > 0;
        show(this.previews.element, any || feed.samples.size > 0);
        this.previews.refresh(shown);
    }

    /** A preview's prompt into the WebUI's txt2img, with what calls the run's model there. */
    async #send(prompt) {
        try {
            const config = await api.get(["runs", this.id, "config"]);
            sendToTxt2img({ prompt: calling(prompt, this.run.method, this.feed.nameInWebui), negative: config.validation_negative_prompt });
            this.app.tell(T.sent);
        } catch (error) {
            this.app.fail(error);
        }
    }

    #drawOther() {
        const { active, running = [active] } = this.app.state || {};
        const others = running.filter((one) => one && one.id !== this.id);
        const key = others.map((one) => one.id).join();
        show(this.other, others.length > 0);
        if (key && this.otherId !== key) {
            const links = others.map((one) => button(one.name || one.id, () => this.choose(one.id === active.id ? "" : one.id), { class: "db-link" }));
            fill(this.other, element("span", { text: T.another }), " ", ...links.flatMap((link) => [link, " "]));
        }
        this.otherId = key;
    }

    #drawTrouble() {
        const { run } = this;
        const silence = ALIVE.includes(run.status) && run.heartbeat ? this.app.now() - run.heartbeat : 0;
        const { active, running = [active], trouble: latest } = this.app.state || {};
        const trouble = running.find((one) => one?.id === this.id)?.trouble || (active?.id === this.id ? latest : null);
        const problems = ENDED.includes(run.status) ? run.problems || (run.problem ? [run.problem] : []) : [];
        const texts = problems.map((one) => [one.message, one.remedy]);
        if (trouble) texts.push([trouble.what || trouble.message, trouble.remedy]);
        else if (silence > SILENT) texts.push([T.silent, T.silentRemedy]);
        const key = JSON.stringify(texts);
        show(this.trouble, texts.length > 0);
        if (key === this.troubleKey) return;
        this.troubleKey = key;
        fill(this.trouble, texts.map(([what, remedy]) => element("p", {}, element("b", { text: what }), " ", element("span", { text: remedy || "" }))));
        if (trouble) this.trouble.append(button(T.kill, () => this.#command("kill"), { title: T.killHelp }));
    }

    #drawStage() {
        const { run, feed } = this;
        const { stage } = feed;
        const waiting = run.status === "queued" ? this.#waiting() : "";
        if (ALIVE.includes(run.status) && stage) {
            fill(this.stage, phrase(stage.of ? T.stage : "{stage}", { stage: document.createTextNode(stage.stage), done: number(stage.done), of: number(stage.of) }));
            if (run.status === "preparing") {
                if (stage.of) this.bar.value = stage.done / stage.of;
                else this.bar.removeAttribute("value");
                return;
            }
        } else say(this.stage, waiting || T.about[run.status] || "");
        this.bar.value = run.total ? Math.min(1, this.#step() / run.total) : 0;
    }

    /** Why it has not begun: the runs before it, or its own start, which is slow on a busy machine. */
    #waiting() {
        const { running = [], queue = [], waiting = "" } = this.app.state || {};
        const mine = running.find((one) => one.id === this.id);
        if (mine) return waiting || plain(T.starting, { time: Number.isFinite(mine.since) ? duration(Math.max(0, this.app.now() - mine.since)) : "" }).trim();
        if (queue[0] !== this.id || running.length) return (queue[0] === this.id && waiting) || T.about.queued;
        return waiting || T.next;
    }

    #step() {
        const { run, feed } = this;
        const training = ALIVE.includes(run.status) && feed.latest;
        return training ? Math.max(run.step || 0, feed.steps[feed.steps.length - 1] || 0) : run.step || 0;
    }

    #drawFacts() {
        const { run, feed } = this;
        const { latest } = feed;
        const active = ALIVE.includes(run.status);
        const passed = latest ? Math.max(0, this.app.now() - latest.time) : 0;
        const fact = (name, content, title) => element("div", { class: "db-figure", title }, element("dt", { text: name }), element("dd", {}, content ?? "–"));
        fill(
            this.facts,
            fact(T.step, phrase(run.total ? T.stepOf : "{step}", { step: number(this.#step()), total: number(run.total) })),
            fact(T.epoch, latest ? number(Number(latest.epoch?.toFixed?.(2) ?? latest.epoch)) : null),
            fact(T.speed, latest ? speed(latest.it_per_s) : null),
            fact(T.left, active && latest && run.status !== "preparing" ? duration(Math.max(0, latest.eta_s - passed)) : null, T.leftHelp),
            fact(T.memory, latest?.memory ? size(latest.memory.now) : null),
            fact(T.peak, latest?.memory ? size(latest.memory.peak) : null),
            fact(T.lossNow, Number.isFinite(latest?.loss) ? number(latest.loss) : null),
            latest?.grad_norm !== undefined && latest?.grad_norm !== null ? fact(T.norm, number(latest.grad_norm)) : null,
        );
    }

    #drawActions() {
        const { run } = this;
        const key = `${run.id} ${run.status} ${run.step === 0}`;
        if (key === this.actionsKey) return;
        this.actionsKey = key;
        const hadFocus = this.actions.contains(document.activeElement);
        if (ALIVE.includes(run.status)) fill(this.actions, ["stop_and_save", "stop", "save", "sample"].map((command) => this.#commandButton(command)));
        else fill(this.actions, runActions(this.app, run, { here: true }));
        if (hadFocus) this.actions.querySelector("button")?.focus();
    }

    #commandButton(command) {
        const [text, help] = T.commands[command];
        const id = uniqueId(command);
        return element(
            "div", { class: "db-action" },
            button(text, (event) => this.#command(command, event.currentTarget), { "aria-describedby": id, data: { command } }),
            element("span", { class: "db-quiet", id, text: help }),
        );
    }

    async #command(command, pressed) {
        if (pressed) pressed.disabled = true;
        try {
            await api.post(["runs", this.id, "commands"], { command });
            this.app.tell(T.heard[command] || T.heard.other);
        } catch (error) {
            this.app.fail(error);
        } finally {
            setTimeout(() => pressed && (pressed.disabled = false), 1500);
        }
    }

    #drawMessages() {
        const found = this.feed.messages;
        show(this.messageCard, found.length > 0);
        fill(this.messages, found.slice(-50).reverse().map((one) => element(
            "li", { class: `db-message db-${one.level}` }, element("span", { class: "db-quiet", text: clock(one.time) }),
            element("span", {}, element("b", { text: one.what || one.message || "" }), " ", element("span", { text: one.remedy || "" })),
        )));
    }

    #newestModels() {
        return [...this.feed.artifacts.values()].sort((a, b) => b.step - a.step);
    }

    /** Fetches the models when the run announces one, or the WebUI's lists have changed. */
    async #drawModels() {
        const { id, feed } = this;
        const { revision, lists } = this.app.state || {};
        const key = [id, feed.artifacts.size, feed.latestPublished, feed.latestModel, revision, lists].join(" ");
        if (key === this.modelsKey) return;
        this.modelsKey = key;
        const { artifacts = [] } = feed.artifacts.size ? await api.get(["runs", id, "artifacts"]) : {};
        if (id !== this.id) return;
        show(this.modelCard, artifacts.length > 0);
        const changed = () => ((this.modelsKey = ""), this.app.pollNow());
        const listed = artifacts.slice().reverse().filter((one, i) => this.showsAllModels || i < MODELS || one.published);
        const all = button(plain(T.allModels, { count: artifacts.length }), () => ((this.showsAllModels = true), changed()), { class: "db-small" });
        fill(
            this.models, listed.map((one) => modelRow(this.app, id, one, { uploaded: feed.uploaded.get(one.name), changed })),
            listed.length < artifacts.length ? element("li", {}, all) : null,
        );
    }
}
