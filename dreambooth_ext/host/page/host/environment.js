// A banner while the trainer's environment does not work: the reason, Repair, and progress.

import { api } from "../shared/api.js";
import { button, element, fill, say, show } from "../shared/dom.js";
import { number, withRemedy } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.environment;

export class Environment {
    /** @param {object} app `fail(error)`; `alone`: before there is a tab */
    constructor(app) {
        this.app = app;
        this.state = null;
        this.element = this.#build();
        this.details = element("details", { class: "db-card db-machine" }, element("summary", { text: T.about }), (this.facts = element("dl", { class: "db-facts" })), this.#tools());
        this.details.addEventListener("toggle", () => this.details.open && this.load());
    }

    #build() {
        this.title = element("p", { class: "db-strong" });
        this.reason = element("p", {});
        this.problem = element("p", { class: "db-problem", hidden: true });
        this.bar = element("progress", { class: "db-progress", max: "1", hidden: true, "aria-label": T.progress });
        this.stage = element("p", { class: "db-quiet" });
        this.note = element("p", { class: "db-quiet" });
        this.repairButton = button(T.repair, () => this.act("repair"), { class: "db-primary" });
        this.cancelButton = button(T.cancel, () => this.act("cancel"), { hidden: true });
        return element(
            "section", { class: "db-banner", role: "status", hidden: true, "aria-label": T.title },
            this.title, this.reason, this.problem, this.bar, this.stage, this.note, element("div", { class: "db-row" }, this.repairButton, this.cancelButton),
        );
    }

    #tools() {
        this.result = element("p", { class: "db-quiet", role: "status" });
        return element(
            "div", { class: "db-stack" },
            element("div", { class: "db-row" }, button(T.verify, () => this.act("verify"), { class: "db-small" }), button(T.repair, () => this.act("repair"), { class: "db-small", title: T.repairHelp })),
            this.result,
        );
    }

    async load() {
        try {
            this.refresh(await api.get(["environment"]));
        } catch (error) {
            if (!error.isLost) this.app.fail(error);
        }
    }

    async act(action) {
        try {
            await api.post(["environment"], { action });
            say(this.result, action === "verify" ? T.verifying : "");
        } catch (error) {
            this.app.fail(error);
        }
        this.load();
    }

    /** @param {object} found as GET environment, or its part in GET state */
    refresh(found) {
        this.state = { ...this.state, ...found };
        const { state, reason, building, problem } = this.state;
        const ready = state === "ready";
        show(this.element, !ready || Boolean(building && building.action !== "verify"));
        const trouble = !building && problem ? withRemedy(problem) : "";
        const titles = trouble && this.app.alone ? { ...T.titles, [state]: T.unfinished } : T.titles;
        say(this.title, building ? T.building : titles[state] || titles.broken);
        const about = this.app.alone ? plain(T.buildingAlone, { folder: this.state.folder || "" }) : T.buildingAbout;
        say(this.reason, building ? about : trouble ? "" : reason || ""); // the reason repeats it
        say(this.problem, trouble);
        show(this.problem, Boolean(trouble));
        show(this.bar, Boolean(building));
        if (building && Number.isFinite(building.fraction)) this.bar.value = building.fraction;
        else this.bar.removeAttribute("value");
        say(this.stage, building ? building.stage || "" : "");
        say(this.note, building ? building.note || "" : "");
        say(this.repairButton, this.app.alone ? T.again : T.repair);
        show(this.repairButton, !building);
        show(this.cancelButton, Boolean(building && building.cancels));
        if (this.details.open) this.#showFacts(trouble);
    }

    #showFacts(trouble) {
        const now = this.state;
        const fact = (name, content) => content && [element("dt", { text: name }), element("dd", { text: content })];
        fill(
            this.facts, fact(T.state, T.states[now.state] || now.state), fact("Python", now.python_version), fact("PyTorch", [now.torch, now.torch_reason].filter(Boolean).join(": ")), fact(T.device, now.device),
            fact(T.kind, now.kind), fact(T.folder, now.folder), fact(T.packages, now.packages && number(Object.keys(now.packages).length)),
            Object.values(this.app.host?.lacks || {}).map((why) => fact(T.lacks, why)),
            Object.entries(now.optional || {}).map(([name, why]) => [element("dt", { text: name }), element("dd", {}, phrase(T.optional, { why: why.reason }))]),
        );
        if (!now.building && (trouble || this.result.textContent === T.verifying)) say(this.result, trouble || (now.verified ? T.verified : ""));
    }
}
