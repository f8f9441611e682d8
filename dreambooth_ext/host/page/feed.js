// One run's events, taken in once each, as what the Monitor shows.

import { address, api } from "./api.js";
import { baseName } from "./format.js";

const MOST_PAGES = 200; // of events in one go: a million steps

export class Feed {
    /** @param {string} id of the run */
    constructor(id) {
        this.id = id;
        this.after = 0;
        this.steps = [];
        this.losses = [];
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

    /** Fetches what is new. Returns whether there was anything. */
    async pull() {
        if (this.pulling) return false;
        this.pulling = true;
        let any = false;
        try {
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
        this.steps.push(event.step);
        this.losses.push(Number.isFinite(event.loss) ? event.loss : NaN);
        for (const [group, values] of this.rates) values.push(Number.isFinite(rates[group]) ? rates[group] : NaN);
    }

    #takeValidation(event) {
        if (!Number.isFinite(event.step) || !Number.isFinite(event.loss)) return;
        this.validation.steps.push(event.step);
        this.validation.losses.push(event.loss);
    }

    /** A resumed run goes over the steps since its last checkpoint again. */
    #forgetFrom(step) {
        while (this.steps.length && this.steps[this.steps.length - 1] >= step) {
            this.steps.pop();
            this.losses.pop();
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
