// A run's state as the page shows it.

import { say } from "./dom.js";
import { TEXTS } from "./texts.js";

/** The states in which a worker is running. */
export const ALIVE = ["preparing", "training", "saving"];

/** The final states. */
export const ENDED = ["done", "stopped", "failed", "damaged"];

/** The name of a run's state; a run with a device but no worker yet is starting. `state`: the answer of GET state. */
export function stateOf(run, { running = [] } = {}) {
    return run.status === "queued" && running.some((one) => one?.id === run.id) ? "starting" : run.status;
}

/** Shows a run's state as a coloured word. */
export function badge(node, status) {
    say(node, TEXTS.statuses[status] || status);
    node.dataset.status = status;
    return node;
}
