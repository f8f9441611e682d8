// A run's state as people see it.

import { say } from "./dom.js";
import { TEXTS } from "./texts.js";

/** The states in which a worker has the run. */
export const ALIVE = ["preparing", "training", "saving"];

/** The states after which nothing more comes. */
export const ENDED = ["done", "stopped", "failed", "damaged"];

/** What a run's state is called: one that has its device, but no worker yet, is starting. `state`: GET state's answer. */
export function stateOf(run, { running = [] } = {}) {
    return run.status === "queued" && running.some((one) => one?.id === run.id) ? "starting" : run.status;
}

/** Shows a run's state as a coloured word. */
export function badge(node, status) {
    say(node, TEXTS.statuses[status] || status);
    node.dataset.status = status;
    return node;
}
