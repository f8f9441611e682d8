// What changes many captions at once: find and replace, tags, templates, and the table of tags.

import { button, element, fill, memory, show, uniqueId } from "../shared/dom.js";
import { phrase, plain } from "../shared/phrase.js";
import { Tagging } from "./tagging.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.captioning;
const TAGS = 80; // of the table, shown at first
const NARROW = 760; // pixels, up to which all tools are folded at first

export class Tools {
    /** @param {import("./editor.js").CaptionEditor} editor */
    constructor(editor) {
        this.editor = editor;
        this.most = TAGS;
        this.changing = []; // what rests where nothing may be changed
        this.element = element("div", { class: "db-stack db-cap-tools" }, this.#replacing(), this.#tags(), this.#templates(), this.#ordering(), new Tagging(editor).element, this.#table());
    }

    #group(title, isOpen, ...children) {
        return element("details", { class: "db-group", open: isOpen && window.innerWidth > NARROW }, element("summary", { text: title }), element("div", { class: "db-stack db-cap-group" }, children));
    }

    #field(text, about = {}, tag = "input") {
        const id = uniqueId("caption");
        const control = element(tag, { id, type: tag === "input" ? "text" : null, class: "db-input", autocomplete: "off", spellcheck: "false", ...about });
        return [control, element("div", { class: "db-field" }, element("label", { class: "db-label", for: id, text }), control)];
    }

    #check(text, checked = false) {
        const control = element("input", { type: "checkbox", checked });
        return [control, element("label", { class: "db-check" }, control, text)];
    }

    #button(text, edit, about = {}) {
        const made = button(text, async () => {
            const asked = edit();
            if (await this.editor.change(asked)) made.focus();
        }, { class: "db-small", ...about });
        this.changing.push(made);
        return made;
    }

    /** Enter in a field does what its button does. */
    #onEnter(field, control) {
        field.addEventListener("keydown", (event) => {
            if (event.key !== "Enter" || event.isComposing) return;
            event.preventDefault();
            control.click();
        });
    }

    #replacing() {
        const [find, findField] = this.#field(T.find);
        const [text, textField] = this.#field(T.replaceBy);
        const [whole, wholeField] = this.#check(T.wholeTags);
        const [anyCase, anyCaseField] = this.#check(T.anyCase, true);
        const go = this.#button(T.replace, () => ({ kind: whole.checked ? "replace_tag" : "replace", find: find.value, text: text.value, any_case: anyCase.checked }));
        [find, text].forEach((one) => this.#onEnter(one, go));
        this.find = find;
        return this.#group(T.replacing, true, findField, textField, wholeField, anyCaseField, element("div", { class: "db-row" }, go));
    }

    #tags() {
        const [tags, field] = this.#field(T.tags);
        const listed = () => tags.value.split(",").map((one) => one.trim()).filter(Boolean);
        const end = this.#button(T.addEnd, () => ({ kind: "add", tags: listed() }));
        this.#onEnter(tags, end);
        return this.#group(
            T.tagging, true, field,
            element(
                "div", { class: "db-row" }, end, this.#button(T.addStart, () => ({ kind: "add", tags: listed(), at_start: true })),
                this.#button(T.remove, () => ({ kind: "remove", tags: listed() })), this.#button(T.first, () => ({ kind: "first", tags: listed() })),
            ),
        );
    }

    #templates() {
        const list = uniqueId("templates");
        const own = memory.read("caption_templates", []);
        const [text, field] = this.#field(T.template, { list, value: T.templates.subject });
        const choices = element("datalist", { id: list }, [...Object.values(T.templates), ...own].map((one) => element("option", { value: one })));
        const apply = this.#button(T.applyTemplate, () => {
            const kept = [text.value, ...own.filter((one) => one !== text.value)].slice(0, 10);
            memory.write("caption_templates", kept);
            return { kind: "template", text: text.value, word: this.editor.settings.word };
        });
        this.#onEnter(text, apply);
        return this.#group(T.template, false, field, choices, element("p", { class: "db-quiet", text: T.templateHelp }), element("div", { class: "db-row" }, apply));
    }

    #ordering() {
        const [keep, field] = this.#field(T.keep, { type: "number", min: "0", max: "99", value: "0", class: "db-input db-short" });
        const sort = (by) => () => ({ kind: "sort", by, keep: Math.max(0, Math.round(Number(keep.value)) || 0) });
        return this.#group(
            T.order, false, field,
            element("div", { class: "db-row" }, this.#button(T.byFrequency, sort("frequency")), this.#button(T.byAlphabet, sort("alphabet")), this.#button(T.unique, () => ({ kind: "unique" }))),
        );
    }

    #table() {
        this.table = element("ul", { class: "db-cap-tags" });
        this.moreTags = button("", () => ((this.most += 5 * TAGS), this.refresh()), { class: "db-small", hidden: true });
        return this.#group(T.frequency, true, this.table, this.moreTags);
    }

    refresh() {
        const { listing, canChange } = this.editor;
        this.changing.forEach((one) => (one.disabled = !canChange || !listing.pictures.length));
        fill(this.table, listing.tags.slice(0, this.most).map(([tag, count]) => this.#tag(tag, count, canChange)));
        const rest = listing.tags.length - this.most;
        show(this.moreTags, rest > 0);
        fill(this.moreTags, phrase(T.moreTags, { count: rest + listing.more_tags }));
    }

    #tag(tag, count, canChange) {
        const said = (text) => plain(text, { tag });
        const change = (kind) => () => this.editor.change({ kind, tags: [tag] });
        return element(
            "li", { class: "db-cap-tag" },
            button(tag, () => this.editor.filterBy(tag), { class: "db-link", title: said(T.showTag), dir: "auto" }), element("span", { class: "db-quiet", text: count }),
            canChange ? button("⇤", change("first"), { class: "db-small db-square", title: said(T.firstTag), "aria-label": said(T.firstTag) }) : null,
            canChange ? button("×", change("remove"), { class: "db-small db-square", title: said(T.removeTag), "aria-label": said(T.removeTag) }) : null,
        );
    }
}
