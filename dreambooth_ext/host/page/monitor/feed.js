// One run's events, each read once, as the data that the Monitor shows. Its size is bounded, however long the run is.

import { address, api } from "../shared/api.js";
import { baseName } from "../shared/format.js";
import { lowerBound } from "../plot/series.js";

const MOST_PAGES = 200; // of events in one go: a million steps
const MOST_POINTS = 4000; // of a curve: then two become one
const MOST_MESSAGES = 100;
const NOTHING = { steps: [], spans: [], losses: [], low: [], high: [], seconds: [], rates: {} };
const TRAINS = ["training", "saving"]; // statuses in which the time of training passes, as host/runs/curves.py counts it
const BEGINS = ["queued", "preparing"];

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
        this.seconds = []; // of training up to each point, without pauses
        this.thinnings = 0; // how often points were put together here
        this.clock = { seconds: 0, time: NaN, trains: false };
        this.isBegun = false;
        this.isBeginning = false; // the run goes on, and has not said from which step
        this.validation = { steps: [], losses: [] }; // on the pictures that are held out
        this.measurements = []; // events of what the run measured of itself, by step
        this.rates = new Map(); // group -> its rate at each of `steps`; NaN where it did not learn
        this.samples = new Map(); // "step/file" -> {step, prompt, seed, file, time}
        this.prompts = new Map(); // each prompt's text once, however many pictures have it
        this.previews = new Set(); // steps that have some
        this.latestSample = 0; // when it was drawn
        this.saves = new Set(); // steps of training states and models
        this.resumes = new Set(); // steps from which the run went on
        this.messages = []; // warnings and errors, the newest of them
        this.artifacts = new Map(); // file -> event
        this.latestModel = 0; // the number of its event
        this.published = new Map(); // name -> the last event of its going into the WebUI, or out of it
        this.latestPublished = 0; // the number of the newest of these
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
        const { events = [], latest, next, clock, ...curves } = await api.get(["runs", this.id, "curves"], {}, 30_000);
        events.forEach((event) => this.#take(event));
        this.#put(0, 0, curves);
        this.latest = latest;
        this.after = next;
        this.clock = { ...this.clock, ...clock };
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
        const { steps, spans, losses, low, high, seconds, rates } = { ...NOTHING, ...curves };
        for (const group of Object.keys(rates)) if (!this.rates.has(group)) this.rates.set(group, new Array(this.steps.length).fill(NaN));
        const splice = (values, given) => values.splice(begin, count, ...given.map((one) => one ?? NaN));
        splice(this.losses, losses);
        splice(this.low, low);
        splice(this.high, high);
        splice(this.seconds, seconds);
        for (const [group, values] of this.rates) splice(values, rates[group] || new Array(steps.length).fill(NaN));
        splice(this.spans, spans);
        splice(this.steps, steps);
    }

    /** Two neighbours become one point, as the server thins: a page that is open for days keeps its size. */
    #thin() {
        const count = this.steps.length - (this.steps.length % 2);
        const paired = (values, join) => {
            const found = [];
            for (let i = 0; i < count; i += 2) found.push(join(values, i));
            return [...found, ...values.slice(count)];
        };
        const sides = (choose) => (values, i) => (Number.isNaN(values[i]) ? values[i + 1] : Number.isNaN(values[i + 1]) ? values[i] : choose(values, i));
        const last = (values, i) => values[i + 1];
        this.losses = paired(this.losses, sides((values, i) => {
            const [a, b] = [this.spans[i], this.spans[i + 1]];
            return (values[i] * a + values[i + 1] * b) / (a + b);
        }));
        this.low = paired(this.low, sides((values, i) => Math.min(values[i], values[i + 1])));
        this.high = paired(this.high, sides((values, i) => Math.max(values[i], values[i + 1])));
        this.seconds = paired(this.seconds, last);
        for (const [group, values] of this.rates) this.rates.set(group, paired(values, last));
        this.spans = paired(this.spans, (values, i) => values[i] + values[i + 1]);
        this.steps = paired(this.steps, last);
        this.thinnings += 1;
    }

    #take(event) {
        this.#letPass(event);
        const take = {
            step: () => this.#takeStep(event),
            status: () => this.#takeStatus(event),
            validation: () => this.#takeValidation(event),
            measurement: () => this.#takeMeasurement(event),
            sample: () => this.#takeSample(event),
            checkpoint: () => this.saves.add(event.step),
            warning: () => this.#takeMessage(event, "warning"),
            error: () => this.#takeMessage(event, "error"),
            artifact: () => (this.artifacts.set(event.file, event), this.saves.add(event.step), (this.latestModel = event.n)),
            uploaded: () => /^https:\/\//.test(event.address) && this.uploaded.set(event.name, event.address),
            published: () => this.#takePublished(event),
            unpublished: () => this.#takePublished(event),
        }[event.type];
        if (take) take();
    }

    #letPass({ type, status, time }) {
        const { clock } = this;
        const said = type === "status" ? status : undefined;
        if (clock.trains && !BEGINS.includes(said) && time > clock.time) clock.seconds += time - clock.time;
        if (Number.isFinite(time)) clock.time = time;
        if (said !== undefined) clock.trains = TRAINS.includes(said);
    }

    #takePublished(event) {
        this.published.set(event.name, event);
        this.latestPublished = event.n;
    }

    /** The name by which the WebUI knows the newest of the run's models that it has; "" without one. */
    get nameInWebui() {
        const there = [...this.published.values()].filter((one) => one.type === "published").sort((a, b) => a.n - b.n);
        return baseName(there.at(-1)?.path).replace(/\.[^.]*$/, "");
    }

    #takeMessage(event, level) {
        this.messages.push({ ...event, level });
        if (this.messages.length > MOST_MESSAGES) this.messages.shift();
    }

    #takeStatus(event) {
        if (event.clears) { // a warning that is over: the worker answers again
            this.messages = this.messages.filter((one) => one.n !== event.clears);
            return;
        }
        this.status = event.status;
        this.stage = event.stage ? { stage: event.stage, done: event.done, of: event.of } : null;
        if (Number.isFinite(event.step)) this.#forgetFrom(event.step + 1);
        if (BEGINS.includes(event.status)) this.isBeginning = true;
        if (event.status !== "training" || !this.isBeginning) return;
        this.isBeginning = false;
        if (event.step > 0) this.resumes.add(event.step);
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
        this.seconds.push(this.clock.seconds);
        for (const values of [this.losses, this.low, this.high]) values.push(loss);
        for (const [group, values] of this.rates) values.push(Number.isFinite(rates[group]) ? rates[group] : NaN);
        if (this.steps.length > MOST_POINTS) this.#thin();
    }

    #takeValidation(event) {
        if (!Number.isFinite(event.step) || !Number.isFinite(event.loss)) return;
        this.validation.steps.push(event.step);
        this.validation.losses.push(event.loss);
    }

    #takeMeasurement(event) {
        if (!Number.isFinite(event.step) || !event.learned) return;
        this.measurements = [...this.measurements.filter((one) => one.step < event.step), event];
    }

    /** Removes later points, because a resumed run repeats the steps since its last training state. */
    #forgetFrom(step) {
        while (this.steps.length && this.steps[this.steps.length - 1] >= step) {
            for (const values of [this.steps, this.spans, this.losses, this.low, this.high, this.seconds]) values.pop();
            for (const values of this.rates.values()) values.pop();
        }
        if (this.measurements.at(-1)?.step >= step) this.measurements = this.measurements.filter((one) => one.step < step);
        const { steps, losses } = this.validation;
        while (steps.length && steps[steps.length - 1] >= step) {
            steps.pop();
            losses.pop();
        }
    }

    #takeSample({ step, path, file: named, prompt, seed, time }) {
        const file = baseName(path || named);
        if (!this.prompts.has(prompt)) this.prompts.set(prompt, prompt);
        this.samples.set(`${step}/${file}`, { step, prompt: this.prompts.get(prompt), seed, file, time });
        this.previews.add(step);
        this.latestSample = time; // one that was drawn again is another picture
    }

    /** A preview's address. @param {number} [size] of its longest side in pixels; without, as it was drawn */
    urlOf(sample, size) {
        return address(["runs", this.id, "samples", sample.step, sample.file], { t: Math.round(sample.time || 0), size });
    }
}
