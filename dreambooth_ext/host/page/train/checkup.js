// Checks the form: quickly while the user types, deeply (base, machine, every picture) when idle and before training.

import { api } from "../shared/api.js";
import { debounced } from "../shared/dom.js";

const QUICK = 350; // milliseconds after the last change
const DEEP = 1800;
const LONGEST = 240_000; // the deep check opens the base and every picture
const NEEDED = ["base_model", "instance_data_dir", "train_data_dir"]; // without them the engine has nothing to look at

const empty = () => ({ problems: [], warnings: [], filled_in: {}, plan: null, estimate: null });

export class Checkup {
    /**
     * @param {() => object} config what to check
     * @param {(result: object) => void} show `deep`: null before, "asking", "done"; `failure`: the check itself failed
     */
    constructor(config, show) {
        this.config = config;
        this.show = show;
        this.number = 0;
        this.quick = empty();
        this.deep = empty();
        this.deepState = null;
        this.failure = null;
        this.soon = debounced(() => this.#quickly(), QUICK);
        this.later = debounced(() => this.deeply(), DEEP);
    }

    /** Called when the form has changed: the last result is out of date. */
    changed() {
        this.number += 1;
        this.later.cancel();
        if (this.deepState) this.deepState = "old";
        this.soon();
    }

    async #quickly() {
        const { number } = this;
        try {
            const found = await api.post(["check"], { config: this.config() });
            if (number !== this.number) return;
            this.quick = { ...empty(), ...found };
            this.failure = null;
        } catch (error) {
            if (number !== this.number) return;
            this.failure = error;
            if (error.isLost) this.soon.cancel();
        }
        this.#tell();
        const blocked = this.quick.problems.some((problem) => NEEDED.includes(problem.field));
        if (!this.failure && !blocked) this.later();
    }

    /**
     * Runs the deep check now. Returns its result, or null if the form was changed meanwhile or there was no answer.
     */
    async deeply() {
        this.soon.cancel();
        this.later.cancel();
        const { number } = this;
        this.deepState = "asking";
        this.#tell();
        try {
            const found = await api.post(["check"], { config: this.config(), deep: true }, LONGEST);
            if (number !== this.number) return null;
            if (found.superseded) return null; // another page asked something newer
            this.deep = this.quick = { ...empty(), ...found };
            this.failure = null;
            this.deepState = "done";
        } catch (error) {
            if (number !== this.number) return null;
            this.failure = error;
            this.deepState = null;
        } finally {
            if (number === this.number && this.deepState === "asking") this.deepState = null;
            this.#tell();
        }
        return this.failure ? null : this.deep;
    }

    get isFresh() {
        return this.deepState === "done";
    }

    #tell() {
        const plan = this.deepState === "done" || !this.quick.plan?.steps ? this.deep.plan : this.quick.plan;
        this.show({
            ...this.quick,
            plan: plan && Object.keys(plan).length ? plan : null,
            estimate: this.deep.estimate || this.quick.estimate,
            deep: this.deepState,
            failure: this.failure,
        });
    }
}
