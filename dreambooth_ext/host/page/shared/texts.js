// All texts of the page. The WebUI's localisations translate texts by exact match, so sentences are kept whole; each
// {value} is inserted as an element of its own.

import { direction, localised } from "./localised.js";
import { CAPTIONING } from "../captions/texts.js";
import { EDITOR } from "../editor/texts.js";
import { COMPARING } from "../compare/texts.js";
import { DOWNLOAD } from "../download/texts.js";
import { MASKS } from "../masks/texts.js";
import { FINDINGS } from "../pictures/texts.js";
import { MONITOR } from "../monitor/texts.js";
import { RUNS } from "../runs/texts.js";
import { TRAIN } from "../train/texts.js";
import { VERDICT } from "../verdict/texts.js";

export const TEXTS = localised({
    code: "en", // the language's own, which the page is marked with
    title: "DreamBooth",
    version: "version {version}",
    views: { train: "Train", monitor: "Monitor", runs: "Runs", compare: "Compare" },
    messages: "Messages",
    language: "Language",
    again: "Try again",
    dismiss: "Dismiss",
    offline: "No connection",
    online: "Reconnected",
    publishedNow: "New model in the WebUI:",
    selectedNow: "New model in the WebUI, selected:",
    ended: {
        done: ["Training has finished:", "good"],
        stopped: ["Training was stopped:", ""],
        failed: ["Training failed:", "bad"],
    },

    notices: {
        notify: "Notify me",
        help: "The browser shows a notification when a training ends. Keep this page open.",
        forbidden: "The browser does not allow notifications from this page. Allow them in its settings for this page.",
        impossible: "This browser shows no notifications here: they need HTTPS, or a page of this machine.",
    },

    failures: {
        lost: "The server does not answer.",
        lostRemedy: "Training continues without this page. Check whether the WebUI is still running; this page reconnects by itself.",
        timeout: "The server did not answer in time.",
        timeoutRemedy: "It may be busy: wait a little and try again.",
        unknown: "The server refused this without giving a reason.",
        page: "There is an error in this page:",
        byStatus: {
            401: ["You need to log in.", "Log in to the WebUI again, then reload this page."],
            403: ["This is not allowed from here.", "Use the machine that the WebUI runs on, or log in."],
            404: ["This no longer exists.", "Reload the page."],
            413: ["This is too large.", "Make it smaller."],
            415: ["This kind of file is not supported.", "Use JPG, PNG, WebP or BMP."],
            500: ["The server had an error.", "See the WebUI's console."],
            502: ["The server does not answer.", "This page reconnects by itself."],
            503: ["The trainer is not ready.", "Wait a little, or repair its environment above."],
        },
    },

    statuses: {
        queued: "waiting", starting: "starting", preparing: "preparing", training: "training", saving: "saving", done: "done", stopped: "stopped",
        failed: "failed", damaged: "damaged",
    },
    methods: { dreambooth: "DreamBooth", finetune: "Fine-tuning", lora: "LoRA", textual_inversion: "Textual Inversion", hypernetwork: "Hypernetwork", unconditional: "Unconditional" },
    types: {
        person: ["Person", "a face, a figure"],
        style: ["Style", "how pictures look"],
        object: ["Object", "a thing, a product"],
        pet: ["Pet", "one animal"],
    },

    environment: {
        title: "Trainer environment",
        about: "About this machine",
        titles: {
            missing: "The trainer's environment has not been installed yet.",
            broken: "The trainer's environment does not work.",
            outdated: "The trainer's environment is out of date.",
        },
        building: "The trainer's environment is being installed.",
        buildingAbout: "Downloads a few packages; the WebUI's own packages stay as they are. This can take some minutes.",
        buildingAlone: "PyTorch and some forty packages, 1 to 5 GB, are put into {folder}. This happens once, and can take some minutes.",
        afterwards: "The tab then opens here by itself. You may close this page meanwhile, but not the terminal.",
        starting: "Everything is there. The tab is starting …",
        unfinished: "The set-up is not finished.",
        again: "Start again",
        cancel: "Stop",
        repair: "Repair",
        repairHelp: "Rebuilds it from scratch.",
        verify: "Verify",
        verifying: "Checking every package …",
        verified: "Everything is installed and works.",
        progress: "Set-up",
        state: "State",
        states: { ready: "ready", missing: "missing", broken: "broken", outdated: "out of date" },
        device: "Device",
        kind: "Kind",
        folder: "Folder",
        packages: "Packages",
        optional: "not available: {why}",
        lacks: "Not supported by this WebUI",
    },

    ...TRAIN,
    ...MASKS,
    ...EDITOR,
    ...MONITOR,
    ...RUNS,
    ...CAPTIONING,
    ...COMPARING,
    ...VERDICT,
    ...DOWNLOAD,
    ...FINDINGS,
});

/** Whether the page is laid out from right to left. */
export const MIRRORED = direction(TEXTS.code) === "rtl";

// The kind of model that each method makes, as in a host's list of what it lacks; not translated.
export const KINDS = {
    dreambooth: "checkpoint",
    finetune: "checkpoint",
    lora: "lora",
    textual_inversion: "textual_inversion",
    hypernetwork: "hypernetwork",
    unconditional: "unconditional",
};
