// Mounts the page and keeps it up to date: one poll for what all views need, and one for the visible view.

import { api } from "./shared/api.js";
import { button, element, fill, memory, say, show } from "./shared/dom.js";
import { CompareView } from "./compare/compare.js";
import { Environment } from "./host/environment.js";
import { Form } from "./train/form.js";
import { baseName, capital } from "./shared/format.js";
import { HostLists } from "./host/lists.js";
import { allLanguages, choosesLanguage, language, localisedSchema } from "./shared/localised.js";
import { Monitor } from "./monitor/monitor.js";
import { Notices } from "./host/notices.js";
import { PageTitle } from "./host/page_title.js";
import { phrase } from "./shared/phrase.js";
import { Runs } from "./runs/runs.js";
import { ALIVE, ENDED } from "./shared/status.js";
import { standAlone } from "./shared/theme.js";
import { MIRRORED, TEXTS } from "./shared/texts.js";

const SEEN = 1000; // milliseconds between polls while the page is seen
const HIDDEN = 5000; // while another tab of the WebUI is, whose lists are to be renewed all the same
const AWAY = 15_000; // while the browser shows another page
const TOLD = 8000; // milliseconds that a message stays
const VIEWS = ["train", "monitor", "runs", "compare"];

class Page {
    constructor(place) {
        this.place = place;
        place.lang = TEXTS.code; // a WebUI's page does not say which language it was given
        place.dir = MIRRORED ? "rtl" : "ltr";
        if (typeof window.gradioApp !== "function") standAlone(place);
        this.state = null;
        this.host = null;
        this.newest = "";
        this.misses = 0;
        this.clockOffset = 0; // seconds that the server's clock is ahead of the browser's
        this.lists = new HostLists();
        this.environment = new Environment(this);
        this.notices = new Notices(this);
        this.title = new PageTitle();
        this.shell = this.#build();
        place.replaceChildren(this.shell);
        place.addEventListener("keydown", (event) => event.stopPropagation()); // the WebUI's keys fail in others' tabs
        document.addEventListener("visibilitychange", () => document.hidden || this.pollNow());
        this.#start();
    }

    /** The server's time, in seconds since 1970. */
    now() {
        return Date.now() / 1000 + this.clockOffset;
    }

    #build() {
        this.version = element("span", { class: "db-version" });
        this.connection = element("span", { class: "db-connection", role: "status" });
        this.tabs = Object.fromEntries(VIEWS.map((view) => [view, element("button", {
            type: "button", role: "tab", class: "db-tab", id: `dreambooth_tab_${view}`, "aria-controls": `dreambooth_view_${view}`,
            text: TEXTS.views[view], on: { click: () => this.go(view) },
        })]));
        this.liveMark = element("span", { class: "db-live", hidden: true });
        this.drawMark = element("span", { class: "db-live", hidden: true });
        this.tabs.monitor.append(this.liveMark);
        this.tabs.compare.append(this.drawMark);
        const tabs = element("div", { class: "db-tabs", role: "tablist", "aria-label": TEXTS.title, on: { keydown: (event) => this.#onTabKey(event) } }, Object.values(this.tabs));
        this.panels = Object.fromEntries(VIEWS.map((view) => [view, element("div", {
            role: "tabpanel", class: "db-panel", id: `dreambooth_view_${view}`, "aria-labelledby": `dreambooth_tab_${view}`, hidden: true,
        })]));
        this.lost = element("div", { class: "db-banner db-banner-bad", role: "alert", hidden: true });
        this.waiting = element("p", { class: "db-quiet", role: "status", text: TEXTS.monitor.loading });
        this.toasts = element("div", { class: "db-toasts", role: "log", "aria-live": "polite", "aria-label": TEXTS.messages });
        this.announcer = element("p", { class: "db-hidden", role: "status" });
        this.languages = element("select", {
            class: "db-input db-inline db-languages", "aria-label": TEXTS.language, title: TEXTS.language, hidden: true, on: { change: () => this.#speak() },
        });
        return element(
            "div", { class: "db-page" },
            element("header", { class: "db-header" }, element("h2", { class: "db-title" }, element("span", { text: TEXTS.title }), " ", this.version), tabs, this.connection, this.notices.element, this.languages),
            this.lost, this.waiting, this.environment.element, Object.values(this.panels), this.environment.details, this.toasts, this.announcer,
        );
    }

    /** Arrow keys move between tabs, as everywhere. */
    #onTabKey(event) {
        const right = MIRRORED ? -1 : 1;
        const by = { ArrowRight: right, ArrowLeft: -right, Home: -9, End: 9 }[event.key];
        if (!by) return;
        event.preventDefault();
        const now = VIEWS.indexOf(this.view);
        const next = Math.abs(by) === 9 ? (by < 0 ? 0 : VIEWS.length - 1) : (now + by + VIEWS.length) % VIEWS.length;
        this.go(VIEWS[next]);
        this.tabs[VIEWS[next]].focus();
    }

    /** Loads the schema and the host, without which nothing can be shown; retries until that works. */
    async #start() {
        try {
            const [schema, host, state] = await Promise.all([api.get(["schema"]), api.get(["host"]), api.get(["state"])]);
            this.schema = localisedSchema(schema);
            this.host = normal(host);
            this.#took(state);
        } catch (error) {
            this.#missed(error);
            setTimeout(() => this.#start(), 2000);
            return;
        }
        this.waiting.remove();
        this.form = new Form(this);
        this.monitor = new Monitor(this);
        this.runs = new Runs(this);
        this.comparing = new CompareView(this);
        this.panels.train.append(this.form.element);
        this.panels.monitor.append(this.monitor.element);
        this.panels.runs.append(this.runs.element);
        this.panels.compare.append(this.comparing.element);
        this.#showVersion();
        this.#offerLanguages();
        const remembered = memory.read("view", {});
        this.go(VIEWS.includes(remembered.view) ? remembered.view : "train", remembered.run || "");
        this.environment.refresh(this.state.environment || {});
        this.#loop();
    }

    /** Each language under its own name; only without a WebUI, which has its own choice. */
    async #offerLanguages() {
        if (!choosesLanguage) return;
        const named = (name) => {
            const own = new Intl.DisplayNames([name.replace("_", "-")], { type: "language" }).of(name.slice(0, 2));
            return capital(own);
        };
        try {
            const names = ["en", ...(await allLanguages())];
            fill(this.languages, names.map((name) => element("option", { value: name, text: named(name), lang: name.slice(0, 2) })));
            this.languages.value = await language();
            show(this.languages, names.length > 1);
        } catch {
            // English it is
        }
    }

    #speak() {
        memory.write("language", this.languages.value);
        location.reload();
    }

    #showVersion() {
        fill(this.version, phrase(TEXTS.version, { version: this.host.version || "" }), " ", element("span", { class: "db-quiet", text: this.host.name || "" }));
    }

    /** Shows a view; `id`: the Monitor's run, "" for the run that is training. */
    go(view, id = "") {
        this.view = view;
        for (const name of VIEWS) {
            show(this.panels[name], name === view);
            this.tabs[name].setAttribute("aria-selected", String(name === view));
            this.tabs[name].tabIndex = name === view ? 0 : -1;
        }
        memory.write("view", { view, run: view === "monitor" ? id : "" });
        if (!this.form) return; // a click before the server has answered: #start goes there
        if (view === "monitor") this.monitor.choose(id);
        if (view === "compare") this.comparing.opened();
        this.pollNow();
    }

    // --- keeping it true ---

    /** Whether the page is visible: it is not while another tab of the WebUI is open. */
    get isSeen() {
        return this.shell.offsetParent !== null && !document.hidden;
    }

    pollNow() {
        clearTimeout(this.timer);
        if (this.form) this.#loop();
    }

    async #loop() {
        const turn = (this.turn = Symbol("turn"));
        this.#remount();
        try {
            this.#took(await api.get(["state"]));
            if (this.isSeen && this.view === "monitor") await this.monitor.poll();
            if (this.isSeen && this.view === "runs") await this.runs.poll();
            if (this.isSeen && this.view === "compare") await this.comparing.poll();
        } catch (error) {
            if (error.isLost || error.status === 401 || error.status === 403) this.#missed(error);
            else this.fail(error);
        }
        if (turn !== this.turn) return; // a newer loop has begun
        const pause = document.hidden ? AWAY : this.isSeen ? SEEN : HIDDEN;
        this.timer = setTimeout(() => this.#loop(), this.misses ? Math.min(SEEN * 2 ** this.misses, 10_000) : pause);
    }

    /** Mounts again if the host has rebuilt its page, with an empty element for ours. */
    #remount() {
        if (this.place.isConnected) return;
        const place = document.getElementById("dreambooth_ext");
        if (!place) return;
        this.place = place;
        place.dataset.mounted = "yes";
        place.replaceChildren(this.shell);
    }

    #took(state) {
        const before = this.state;
        this.state = state;
        if (Number.isFinite(state.time)) this.clockOffset = state.time - Date.now() / 1000;
        this.#found();
        this.environment.refresh(state.environment || {});
        for (const one of this.lists.follow(state)) this.tell(TEXTS[one.selected ? "selectedNow" : "publishedNow"], one.title || baseName(one.path));
        this.#showLive();
        this.form?.model.downloads.follow(state.downloads);
        if (before && (before.revision !== state.revision || before.lists !== state.lists) && this.form) this.askHost();
        const running = new Set((state.running || [state.active]).map((one) => one?.id));
        for (const one of before?.running || [before?.active]) if (one && !running.has(one.id)) this.#ended(one);
    }

    #showLive() {
        const { active, job } = this.state;
        show(this.drawMark, job?.kind === "compare");
        say(this.drawMark, job?.total ? `${Math.floor((100 * job.done) / job.total)} %` : "…");
        const isOver = ENDED.includes(active?.status); // the WebUI takes its models back still
        show(this.liveMark, Boolean(active) && !isOver);
        if (!active || isOver) {
            this.title.show("");
            return;
        }
        const percent = active.total ? Math.floor((100 * (active.step || 0)) / active.total) : 0;
        const far = ALIVE.includes(active.status) && active.total ? `${percent} %` : "…";
        say(this.liveMark, far);
        this.title.show(`${far} - ${active.name || active.id}`);
    }

    /** Reports how a run ended, on every view and to screen readers. */
    async #ended(run) {
        try {
            const now = await api.get(["runs", run.id]);
            if (ALIVE.includes(now.status) || now.status === "queued") return;
            const [text, level] = TEXTS.ended[now.status] || TEXTS.ended.stopped;
            this.tell(text, now.name || run.id, level);
            say(this.announcer, `${now.name || run.id}: ${text}`);
            const { message = "", remedy = "" } = (now.status === "failed" && now.problem) || {};
            this.notices.ended(run.id, `${text} ${now.name || run.id}`, `${message} ${remedy}`.trim());
        } catch {
            // deleted meanwhile: nothing to say
        }
    }

    /** Loads the host's checkpoints, other files and options again. */
    async askHost() {
        try {
            this.tookHost(await api.get(["host"]));
        } catch {
            // the next change asks again
        }
    }

    /** @param {object} host as GET host */
    tookHost(host) {
        this.host = normal(host);
        this.form.hostChanged();
    }

    #missed(error) {
        this.misses += 1;
        if (error.status === 401 || error.status === 403) this.misses = Math.max(this.misses, 2);
        if (this.misses < 2 && this.form) return; // one lost answer is nothing
        fill(this.lost, element("b", { text: error.message }), " ", element("span", { text: error.remedy || "" }), " ", button(TEXTS.again, () => this.form ? this.pollNow() : this.#start(), { class: "db-small" }));
        show(this.lost, true);
        say(this.connection, TEXTS.offline);
        this.connection.dataset.state = "lost";
    }

    #found() {
        if (this.misses) say(this.announcer, TEXTS.online);
        this.misses = 0;
        show(this.lost, false);
        say(this.connection, "");
        this.connection.dataset.state = "";
    }

    // --- saying things ---

    /** Shows a short message; `detail` is data and is not translated. */
    tell(text, detail = "", level = "") {
        const toast = element(
            "div", { class: `db-toast ${level ? `db-toast-${level}` : ""}` }, element("span", {}, element("span", { text }), detail ? ` ${detail}` : null),
            button("×", () => toast.remove(), { class: "db-toast-close", "aria-label": TEXTS.dismiss }),
        );
        this.toasts.append(toast);
        while (this.toasts.children.length > 4) this.toasts.firstChild.remove();
        if (level !== "bad") setTimeout(() => toast.remove(), TOLD);
    }

    /** Shows an error with its remedy until it is dismissed. */
    fail(error) {
        const isOurs = error.name === "Failure";
        if (!isOurs) console.error(error);
        const text = isOurs ? error.message : `${TEXTS.failures.page} ${error.message}`;
        const key = `${text} ${error.remedy || ""}`;
        if ([...this.toasts.children].some((one) => one.dataset.key === key)) return;
        this.tell(text, error.remedy || "", "bad");
        this.toasts.lastChild.dataset.key = key;
    }
}

/** GET host's answer with everything that the page looks at. */
function normal(host) {
    const lacks = Object.fromEntries(Object.entries(host.lacks || {}).map(([kind, why]) => [kind, why.reason]));
    return { bases: [], current: "", options: {}, restricted: "", ...host, lacks };
}

/** Shows the page in its place, once. */
export function mount(place) {
    if (place.dataset.mounted) return;
    place.dataset.mounted = "yes";
    new Page(place);
}

const place = document.getElementById("dreambooth_ext");
if (place) mount(place);
