// A field for a link to a model, and what is being downloaded: first what it is, then its progress.

import { api } from "../shared/api.js";
import { doing } from "../shared/doing.js";
import { button, element, fill, show } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";
import { Bar, factRows, remarks, signature, trouble } from "./card.js";

const BASES = ["checkpoint", "diffusers"]; // kinds that trainings start from

export class Downloads {
    /** @param {(base: string) => void} choose takes a model as the base */
    constructor(app, choose) {
        Object.assign(this, { app, choose, revision: null, busy: false, cards: new Map(), states: new Map() });
        this.element = this.#build();
    }

    #build() {
        const T = TEXTS.download;
        this.opener = button(T.open, () => this.#open(this.asking.hidden), { class: "db-small db-download-open", "aria-expanded": "false" });
        this.input = element("input", { type: "text", class: "db-input", "aria-label": T.link, placeholder: T.example, spellcheck: "false", autocomplete: "off", inputmode: "url" });
        this.look = button(T.look, () => this.#look());
        this.input.addEventListener("keydown", (event) => {
            if (event.key === "Enter") this.#look();
            if (event.key === "Escape") this.#open(false);
        });
        this.asking = element("div", { class: "db-download-ask", hidden: true }, element("div", { class: "db-beside" }, this.input, this.look), element("p", { class: "db-quiet", text: T.help }));
        this.list = element("div", { class: "db-download-list", role: "group", "aria-label": T.list, hidden: true });
        return element("div", { class: "db-download" }, element("div", {}, this.opener), this.asking, this.list);
    }

    #open(open) {
        show(this.asking, open);
        this.opener.setAttribute("aria-expanded", String(open));
        (open ? this.input : this.opener).focus();
    }

    async #look() {
        const link = this.input.value.trim();
        if (!link) return this.input.focus();
        return doing(this.app, this.look, async () => {
            await api.post(["downloads"], { link });
            this.input.value = ""; // it may have a key in it
        }, () => this.#ask());
    }

    /** Called with what each state says of downloads. */
    follow(told) {
        if (!told || (told.revision === this.revision && !told.busy && !this.busy)) return;
        this.revision = told.revision;
        this.busy = told.busy;
        this.#ask();
    }

    async #ask() {
        try {
            this.#took((await api.get(["downloads"])).downloads);
        } catch {
            this.revision = null; // the next state asks again
        }
    }

    #took(downloads) {
        for (const one of downloads) this.#noticed(one);
        const kept = new Set(downloads.map((one) => one.id));
        for (const id of [...this.cards.keys()]) if (!kept.has(id)) this.#forget(id);
        downloads.forEach((one, place) => this.#showOne(one, place));
        show(this.list, downloads.length > 0);
        this.busy = downloads.some((one) => ["looking", "queued", "running"].includes(one.state));
    }

    #forget(id) {
        this.cards.get(id).element.remove();
        this.cards.delete(id);
        this.states.delete(id);
    }

    /** What this page saw coming is the base from now on. */
    async #noticed(one) {
        const before = this.states.get(one.id);
        this.states.set(one.id, one.state);
        if (one.state !== "done" || !["running", "queued"].includes(before)) return;
        await this.app.askHost();
        if (BASES.includes(one.result?.kind) && !one.names.length) this.#take(one);
    }

    #take(one) {
        this.choose(one.result.path);
        this.app.tell(TEXTS.download.chosen, one.facts?.title || one.facts?.name || one.result.path);
    }

    #showOne(one, place) {
        let card = this.cards.get(one.id);
        if (!card) {
            card = { element: element("section", { class: "db-download-one", "aria-label": one.link }), key: "", bar: new Bar(one.link) };
            this.cards.set(one.id, card);
        }
        if (this.list.children[place] !== card.element) this.list.insertBefore(card.element, this.list.children[place] || null);
        const key = signature(one);
        if (card.key !== key) {
            card.key = key;
            const kept = card.element.contains(document.activeElement) ? document.activeElement.dataset.keep : "";
            fill(card.element, this.#content(one, card));
            if (kept) (card.element.querySelector(`[data-keep="${kept}"]`) || card.element.querySelector("button"))?.focus();
        }
        card.bar.update(one);
    }

    #content(one, card) {
        const T = TEXTS.download;
        const facts = one.facts || {};
        const title = element("b", { class: "db-download-title", text: one.title || facts.name || one.link });
        const row = (...controls) => element("div", { class: "db-row" }, controls);
        switch (one.state) {
            case "looking":
                return [title, element("p", { class: "db-quiet", role: "status", text: T.looking }), row(this.#cancel(one))];
            case "found":
                return [element("dl", { class: "db-facts" }, factRows(facts)), this.#choices(one), remarks(facts), trouble(one.problem), row(this.#act(one, "fetch", T.fetch, { class: "db-primary", disabled: !facts.has_room }), this.#cancel(one))];
            case "queued":
                return [title, element("p", { class: "db-quiet", text: T.queued }), row(this.#cancel(one))];
            case "running":
                return [title, card.bar.element, row(this.#act(one, "pause", T.pause), this.#cancel(one))];
            case "paused":
                return [title, card.bar.element, this.#goOn(one, T.resume)];
            case "failed":
                return [title, trouble(one.problem), this.#goOn(one, T.again)];
            default:
                return [title, ...this.#ended(one)];
        }
    }

    /** Going on, with the link again where it is not kept. */
    #goOn(one, text) {
        const T = TEXTS.download;
        const link = one.needs_link ? element("input", { type: "text", class: "db-input", "aria-label": T.link, spellcheck: "false", autocomplete: "off", data: { keep: "link" } }) : null;
        const resume = button(text, (event) => doing(this.app, event.currentTarget, () => api.post(["downloads", one.id], { action: "resume", link: link?.value.trim() || "" }), () => this.#ask()), { data: { keep: "resume" } });
        return [link ? [element("p", { class: "db-quiet", text: T.linkAgain }), link] : null, element("div", { class: "db-row" }, resume, this.#cancel(one))];
    }

    #ended(one) {
        const T = TEXTS.download;
        const { path = "", was_there: wasThere, kind = "" } = one.result || {};
        const folder = path.slice(0, Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"), 0));
        const where = kind === "diffusers" || !folder ? null : element("p", { class: "db-quiet" }, phrase(wasThere ? T.wasThere : T.done, { folder }));
        const take = BASES.includes(kind) ? button(T.choose, () => this.#take(one), { data: { keep: "take" } }) : null;
        return [where, BASES.includes(kind) || one.names.length ? null : element("p", { class: "db-warn-text", text: T.noBase }), element("div", { class: "db-row" }, take, this.#remove(one, TEXTS.dismiss))];
    }

    /** Which of several files it is to be; another one is looked up anew. */
    #choices(one) {
        const choices = one.facts?.choices || [];
        if (choices.length < 2) return null;
        const T = TEXTS.download;
        const name = one.file || choices.find((choice) => choice.name === one.facts.name || choice.name.endsWith(`/${one.facts.name}`))?.name;
        const select = element("select", { class: "db-input", "aria-label": T.which, data: { keep: "which" } }, choices.map((choice) => element("option", { value: choice.name, text: choice.name, selected: choice.name === name })));
        select.addEventListener("change", () => doing(this.app, select, () => api.post(["downloads", one.id], { action: "look", file: select.value }), () => this.#ask()));
        return element("label", { class: "db-field" }, element("span", { class: "db-label", text: T.which }), select);
    }

    #act(one, action, text, about = {}) {
        return button(text, (event) => doing(this.app, event.currentTarget, () => api.post(["downloads", one.id], { action }), () => this.#ask()), { data: { keep: action }, ...about });
    }

    #cancel(one) {
        return this.#remove(one, one.state === "failed" ? TEXTS.download.remove : TEXTS.download.cancel, one.state === "running" || one.state === "paused");
    }

    #remove(one, text, tells = false) {
        return button(text, (event) => doing(this.app, event.currentTarget, () => api.delete(["downloads", one.id]), () => {
            if (tells) this.app.tell(TEXTS.download.cancelled, one.facts?.name || "");
            this.#ask();
        }), { data: { keep: "remove" } });
    }
}
