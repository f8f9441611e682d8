// The summary beside the questions: the plan, the memory, disk and time it needs, its problems, and the Train button.

import { append, button, element, fill, say, show, uniqueId } from "../shared/dom.js";
import { Places } from "../host/places.js";
import { duration, number, size, value, withRemedy } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.summary;

export class Summary {
    /** @param {import("./form.js").Form} form */
    constructor(form) {
        this.form = form;
        this.element = this.#build();
    }

    #build() {
        this.sentence = element("p", { class: "db-sentence" });
        this.facts = element("dl", { class: "db-facts" });
        this.note = element("p", { class: "db-quiet", role: "status" });
        this.reasons = element("details", { class: "db-reasons" }, element("summary", { text: T.why }), (this.reasonList = element("ul", {})));
        this.problems = element("div", { class: "db-problems", tabindex: "-1", role: "alert", hidden: true });
        this.missing = element("div", { class: "db-missing", hidden: true });
        this.warnings = element("ul", { class: "db-warnings", "aria-label": T.warnings });
        this.trainButton = button(T.train, () => this.form.train(), { class: "db-primary db-large" });
        this.checkButton = button(T.check, () => this.#check(), {});
        return element(
            "section", { class: "db-card db-summary", "aria-label": T.title },
            element("h3", { class: "db-h", text: T.title }), this.sentence, this.facts, this.reasons, this.warnings, this.missing, this.problems,
            this.#wishes(), element("div", { class: "db-row db-go" }, this.trainButton, this.checkButton), this.note,
        );
    }

    #wishes() {
        const { settings } = this.form;
        const check = (name, text, help) => {
            const input = element("input", { type: "checkbox", on: { change: () => settings.answer(name, input.checked) } });
            return [input, element("label", { class: "db-check", title: help }, input, element("span", { text }))];
        };
        const choice = (name, text, options) => {
            const id = uniqueId(name);
            const select = element(
                "select", { id, class: "db-input db-inline", on: { change: () => settings.answer(name, select.value) } },
                Object.entries(options).map(([key, label]) => element("option", { value: key, text: label })),
            );
            return [select, element("div", { class: "db-choice-row" }, element("label", { class: "db-label", for: id, text }), select)];
        };
        const [previews, previewsLabel] = check("previews", T.previews, T.previewsHelp);
        const alone = this.form.app.host.name === "standalone";
        const [publish, publishLabel] = alone ? check("publish", T.publishAlone, T.publishAloneHelp) : check("publish", T.publish, T.publishHelp);
        const [intermediate, intermediateLabel] = check("intermediate", T.intermediate, T.intermediateHelp);
        const [select, selectRow] = choice("select", T.select, T.selectChoices);
        const [meanwhile, meanwhileRow] = choice("whileTraining", T.meanwhile, T.meanwhileChoices);
        this.places = new Places(this.form.app);
        Object.assign(this, { previews, publish, intermediate, select, selectRow, meanwhile, meanwhileRow });
        return element("div", { class: "db-wishes" }, previewsLabel, publishLabel, this.places.element, intermediateLabel, selectRow, meanwhileRow);
    }

    hostChanged() {
        const standalone = this.form.app.host.name === "standalone";
        show(this.meanwhileRow, !standalone);
        this.standalone = standalone;
        this.places.refresh();
    }

    refresh() {
        const { form } = this;
        const { settings, result } = form;
        const wishes = settings.wishes(form.app.host.options || {});
        this.previews.checked = settings.state.previews;
        this.publish.checked = wishes.publish;
        const loads = settings.method !== "unconditional"; // no WebUI does
        show(this.publish.parentElement, loads);
        show(this.places.element, loads && Boolean(form.app.host.publishing?.known) && wishes.publish);
        show(this.intermediate.parentElement, loads);
        this.intermediate.checked = wishes.intermediate || (wishes.publish && wishes.select === "every");
        this.intermediate.disabled = !wishes.publish || wishes.select === "every";
        show(this.selectRow, loads && !this.standalone);
        this.select.value = wishes.select;
        this.select.disabled = !wishes.publish;
        this.meanwhile.value = wishes.while_training;
        this.#showPlan(result);
        this.#showProblems(form.problems(), form.missing());
        const grave = (one) => Number(Boolean(one.is_grave));
        fill(this.warnings, [...form.warnings()].sort((one, other) => grave(other) - grave(one)).map((one) => this.#item(one)));
        this.trainButton.disabled = Boolean(form.busy);
        const passed = form.busy ? Math.round((Date.now() - form.checking) / 1000) : 0;
        say(this.trainButton, !form.busy ? T.train : passed > 1 ? plain(T.checkingFor, { time: duration(passed) }) : T.checking);
        this.checkButton.disabled = result?.deep === "asking";
        this.#showNote(result);
    }

    #showNote(result) {
        const failure = result?.failure;
        if (failure) say(this.note, `${T.checkFailed} ${withRemedy(failure)}`);
        else say(this.note, result?.deep === "asking" ? T.looking : result?.deep === "done" ? T.looked : "");
        this.note.classList.toggle("db-warn-text", Boolean(failure));
        this.element.classList.toggle("db-busy", result?.deep === "asking");
    }

    #showPlan(result) {
        const { settings, pictures } = this.form;
        const filled = result?.filled_in || {};
        const config = settings.config();
        const of = (name) => config[name] ?? filled[name]?.value;
        const plan = result?.plan;
        const sharded = Boolean(settings.uses("train_shards_path_or_url") && config.train_shards_path_or_url);
        const count = sharded ? 1 : plan?.pictures ?? pictures.count;
        const steps = plan?.steps ?? of("max_train_steps");
        if (!count || !steps) fill(this.sentence, element("span", { class: "db-quiet", text: T.nothingYet }));
        else {
            const kind = document.createTextNode(settings.bindsWord ? TEXTS.types[settings.subjectType]?.[0] || settings.subjectType : T[settings.method] || TEXTS.methods[settings.method] || settings.method);
            const text = plan?.text_encoder_steps ?? of("text_encoder_steps");
            const rate = typeof of("learning_rate") === "number" ? number(of("learning_rate")) : value(of("learning_rate"));
            const sentence = text ? T.sentence : T.sentenceWithoutText;
            fill(this.sentence, phrase(sharded ? T.sentenceOfShards : sentence, { count, kind, steps: number(steps), rate, text: number(text) }));
        }
        this.#showFacts(plan, result, { count, steps, epochs: sharded ? null : plan?.epochs ?? this.#epochs(of, steps, count) });
        const reasons = Object.entries(filled).filter(([, one]) => one.reason);
        fill(this.reasonList, reasons.map(([name, one]) => this.#reason(name, one)));
        show(this.reasons, reasons.length > 0);
    }

    #epochs(of, steps, count) {
        const batches = Math.ceil(count / (of("train_batch_size") || 1)); // of an epoch; its last one may be smaller
        const processes = Math.max(of("processes") || 1, (of("device") || "").split(",").length); // each takes a batch of its own
        return steps && batches ? (steps * (of("gradient_accumulation_steps") || 1) * processes) / batches : null;
    }

    #reason(name, { value: given, reason }) {
        const label = this.form.settings.known.get(name)?.label || name;
        return element("li", {}, element("b", { text: label }), " ", element("span", { class: "db-value", text: value(given) }), element("span", { class: "db-quiet", text: ` ${reason}` }));
    }

    #showFacts(plan, result, { count, steps, epochs }) {
        const fact = (name, content, { part, title } = {}) => content && [
            element("dt", { text: name }),
            element("dd", { title }, content, part === undefined ? null : meter(part, name)),
        ];
        const ready = Boolean(count && steps);
        const share = (need, there) => (there ? need / there : undefined);
        fill(
            this.facts,
            fact(T.steps, ready && number(steps)),
            fact(T.epochs, ready && epochs && number(Number(epochs.toPrecision(3)))),
            fact(T.time, ready && this.#time(result?.estimate, plan)),
            plan?.memory ? fact(T.memory, phrase(T.ofAll, { need: size(plan.memory), all: size(plan.memory_available) }), { part: share(plan.memory, plan.memory_available) }) : null,
            plan?.disk ? fact(T.disk, phrase(T.ofFree, { need: size(plan.disk), all: size(plan.disk_available) }), { part: share(plan.disk, plan.disk_available) }) : null,
            plan?.device ? fact(T.device, `${plan.device}, ${plan.mixed_precision === "no" ? "fp32" : plan.mixed_precision}, ${plan.optimizer}`) : null,
            plan?.family ? fact(T.base, `${plan.family}, ${plan.resolution} px`) : null,
            plan?.class_pictures ? fact(T.classPictures, number(plan.class_pictures)) : null,
            plan?.held ? fact(T.keptBack, number(plan.held), { title: T.keptBackHelp }) : null,
            fact(T.measured, this.#measurements(plan, this.form.settings.config().measure_progress), { title: T.measuredHelp }),
        );
        this.facts.classList.toggle("db-old", result?.deep === "old");
    }

    /** How often the run measures itself and what that costs; nothing before the deep check, or where it is off. */
    #measurements(plan, isOn) {
        if (!Number.isFinite(plan?.measurements) || isOn === false) return null;
        if (!plan.measurements) return T.notMeasured;
        return phrase(T.measuredShare, { count: number(plan.measurements), share: `${number(Math.round(plan.measuring * 1000) / 10)} %` });
    }

    /** The estimated time and its source; nothing before the deep check. */
    #time(estimate, plan) {
        if (Number.isFinite(estimate?.seconds)) {
            return [phrase("≈ {time}", { time: duration(estimate.seconds) }), element("div", { class: "db-quiet", text: estimate.source || "" })];
        }
        return plan?.device ? T.timeUnknown : null;
    }

    #item(one) {
        if (typeof one === "string") return element("li", { text: one });
        const text = withRemedy(one);
        return element("li", { class: one.is_grave ? "db-grave" : undefined }, this.#link(one.field, text));
    }

    /** A text that links to its field, if it has one. */
    #link(field, text) {
        if (!field || !this.form.hasField(field)) return element("span", { text });
        const label = this.form.settings.known.get(field.split(/[.[]/)[0])?.label || field;
        return element(
            "span", {}, button(label, () => this.form.reveal(field), { class: "db-link" }), " ", element("span", { text }),
        );
    }

    #showProblems(problems, missing) {
        fill(
            this.problems,
            problems.length ? element("p", { class: "db-strong", text: problems.length === 1 ? T.oneProblem : T.problems }) : null,
            problems.length ? element("ul", {}, problems.map((one) => this.#item(one))) : null,
        );
        show(this.problems, problems.length > 0);
        fill(
            this.missing,
            missing.length ? element("p", { class: "db-quiet", text: T.stillNeeded }) : null,
            missing.length ? element("ul", {}, missing.map((one) => this.#needed(one))) : null,
        );
        show(this.missing, missing.length > 0);
    }

    #needed(one) {
        return element("li", {}, button(T.needs[one.field] || one.message, () => this.form.reveal(one.field), { class: "db-link" }));
    }

    focusProblems() {
        this.problems.focus();
        this.problems.scrollIntoView({ block: "nearest" });
    }

    async #check() {
        this.form.asked = true;
        const result = await this.form.checkup.deeply();
        if (result?.problems.length) this.focusProblems();
    }
}

/** A bar that shows how much of the available amount is needed: red when full. */
function meter(part, label) {
    const percent = Math.min(100, Math.round(part * 100));
    const bar = element("span", { class: "db-meter", role: "img", "aria-label": `${label} ${percent} %` });
    append(bar, element("span", { class: part > 1 ? "db-over" : part > 0.85 ? "db-tight" : "", style: { width: `${percent}%` } }));
    return bar;
}
