// Turns one run's events, each read once, into the data that the Monitor shows.

import { address, api } from "../shared/api.js";
import { baseName } from "../shared/format.js";
import { lowerBound } from "./series.js";

const MOST_PAGES = 200; // of events in one go: a million steps
const NOTHING = { steps: [], spans: [], losses: [], low: [], high: [], rates: {} };

export class Feed {
    /** @param {string} id of the run */
    constructor(id) {
        this.id = id;
        this.after = 0;
        this.steps = [];
        this.spans = []; // how many steps each point stands for
        this.losses = []; // their mean
        this.low = []; // and the least and greatest
        this.high = [];
        this.isBegun = false;
        this.validation = { steps: [], losses: [] }; // on the pictures that are held out
        this.rates = new Map(); // group -> its rate at each of `steps`; NaN where it did not learn
        this.samples = new Map(); // "step/file" -> {step, prompt, seed, file, url, time}
        this.messages = []; // warnings and errors
        this.artifacts = new Map(); // file -> event
        this.latestModel = 0; // the number of its event
        this.published = []; // into the WebUI, and out of it
        this.uploaded = new Map(); // model -> its address on Hugging Face
        this.latest = null; // the newest step event
        this.stage = null; // {stage, done, of} of the preparations
        this.status = "";
    }

    /** Fetches new events. Returns whether there were any. */
    async pull() {
        if (this.pulling) return false;
        this.pulling = true;
        let any = false;
        try {
            if (!this.isBegun) any = await this.#begin();
            for (let page = 0; page < MOST_PAGES; page += 1) {
                const { events = [], next, more } = await api.get(["runs", this.id, "events"], { after: this.after }, 30_000);
                if (!events.length) break;
                events.forEach((event) => this.#take(event));
                any = true;
                const last = Number.isFinite(next) ? next : events[events.length - 1].n;
                if (last <= this.after) break;
                this.after = last;
                if (!more) break;
            }
        } finally {
            this.pulling = false;
        }
        return any;
    }

    /** Fetches everything so far, with long curves thinned out; later events are fetched one by one. */
    async #begin() {
        const { events = [], latest, next, ...curves } = await api.get(["runs", this.id, "curves"], {}, 30_000);
        events.forEach((event) => this.#take(event));
        this.#put(0, 0, curves);
        this.latest = latest;
        this.after = next;
        this.isBegun = true;
        return next > 0;
    }

    /** Whether points between two steps stand for several, so that `refine` would show more. */
    isThinned(from, to) {
        const [begin, end] = this.#between(from, to);
        return this.spans.slice(begin, end).some((span) => span > 1);
    }

    /** Fetches the curves between two steps as closely as the server has them. */
    async refine(from, to) {
        const [begin, end] = this.#between(from, to);
        const first = begin ? this.steps[begin - 1] + 1 : 0;
        const last = this.steps[end - 1];
        const curves = await api.get(["runs", this.id, "curves"], { from: first, to: last }, 30_000);
        const [now, then] = [this.steps.indexOf(last), begin ? this.steps.indexOf(first - 1) + 1 : 0];
        if (now < 0 || curves.steps.at(-1) !== last) return false; // the run has gone back meanwhile
        this.#put(then, now + 1 - then, curves);
        return true;
    }

    /** The points that cover two steps: the index of the first, and the one behind the last. */
    #between(from, to) {
        const begin = lowerBound(this.steps, from);
        return [begin, Math.min(this.steps.length, lowerBound(this.steps, to) + 1)];
    }

    /** Replaces `count` points by others. */
    #put(begin, count, curves) {
        const { steps, spans, losses, low, high, rates } = { ...NOTHING, ...curves };
        for (const group of Object.keys(rates)) if (!this.rates.has(group)) this.rates.set(group, new Array(this.steps.length).fill(NaN));
        const splice = (values, given) => values.splice(begin, count, ...given.map((one) => one ?? NaN));
        splice(this.losses, losses);
        splice(this.low, low);
        splice(this.high, high);
        for (const [group, values] of this.rates) splice(values, rates[group] || new Array(steps.length).fill(NaN));
        splice(this.spans, spans);
        splice(this.steps, steps);
    }

    #take(event) {
        const take = {
            step: () => this.#takeStep(event),
            status: () => this.#takeStatus(event),
            validation: () => this.#takeValidation(event),
            sample: () => this.#takeSample(event),
            warning: () => this.messages.push({ ...event, level: "warning" }),
            error: () => this.messages.push({ ...event, level: "error" }),
            artifact: () => (this.artifacts.set(event.file, event), (this.latestModel = event.n)),
            uploaded: () => /^https:\/\//.test(event.address) && this.uploaded.set(event.name, event.address),
            published: () => this.published.push(event),
            unpublished: () => this.published.push(event),
        }[event.type];
        if (take) take();
    }

    #takeStatus(event) {
        if (event.clears) { // a warning that is over: the worker answers again
            this.messages = this.messages.filter((one) => one.n !== event.clears);
            return;
        }
        this.status = event.status;
        this.stage = event.stage ? { stage: event.stage, done: event.done, of: event.of } : null;
        if (Number.isFinite(event.step)) this.#forgetFrom(event.step + 1);
    }

    #takeStep(event) {
        this.#forgetFrom(event.step);
        this.stage = null;
        this.latest = event;
        const rates = event.lr && typeof event.lr === "object" ? event.lr : { rate: event.lr };
        for (const group of Object.keys(rates)) {
            if (!this.rates.has(group)) this.rates.set(group, new Array(this.steps.length).fill(NaN));
        }
        const loss = Number.isFinite(event.loss) ? event.loss : NaN;
        this.steps.push(event.step);
        this.spans.push(1);
        for (const values of [this.losses, this.low, this.high]) values.push(loss);
        for (const [group, values] of this.rates) values.push(Number.isFinite(rates[group]) ? rates[group] : NaN);
    }

    #takeValidation(event) {
        if (!Number.isFinite(event.step) || !Number.isFinite(event.loss)) return;
        this.validation.steps.push(event.step);
        this.validation.losses.push(event.loss);
    }

    /** Removes later points, because a resumed run repeats the steps since its last training state. */
    #forgetFrom(step) {
        while (this.steps.length && this.steps[this.steps.length - 1] >= step) {
            for (const values of [this.steps, this.spans, this.losses, this.low, this.high]) values.pop();
            for (const values of this.rates.values()) values.pop();
        }
        const { steps, losses } = this.validation;
        while (steps.length && steps[steps.length - 1] >= step) {
            steps.pop();
            losses.pop();
        }
    }

    #takeSample(event) {
        const file = baseName(event.path || event.file);
        const url = address(["runs", this.id, "samples", event.step, file], { t: Math.round(event.time || 0) });
        this.samples.set(`${event.step}/${file}`, { step: event.step, prompt: event.prompt, seed: event.seed, file, url, time: event.time });
    }
}
