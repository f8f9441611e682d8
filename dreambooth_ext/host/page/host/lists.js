// Refreshes the WebUI's own lists of models after one was published, without reloading the page.

const DRAWN = 4000; // milliseconds after which a fresh page of the WebUI is surely whole
const SETTLE = 800; // milliseconds that the WebUI's lists take before the new checkpoint is chosen in them
const BUTTONS = {
    checkpoint: ["refresh_sd_model_checkpoint", "forge_refresh_checkpoint"],
    others: ["txt2img_lora_extra_refresh_internal", "img2img_lora_extra_refresh_internal"],
};

/** The WebUI's document; in some gradio versions it is in a shadow tree. */
export function webui() {
    return typeof window.gradioApp === "function" ? window.gradioApp() : null;
}

function press(ids) {
    const page = webui();
    for (const id of ids) page?.querySelector(`#${id}`)?.click();
}

/**
 * Follows the `revision` of GET state: refreshes the lists, and selects a new checkpoint in them, at once. The server
 * has selected it already, and loads it once its models are back: selecting it here loads nothing, even during training.
 */
export class HostLists {
    constructor() {
        this.revision = null; // the one that the WebUI's lists show; null before the first answer
        this.newest = 0; // the number of the last publication that was dealt with
        this.areCardsOld = false;
        this.loadedThen = null; // models that the server had loaded when the cards were refreshed; null: no matter
    }

    /**
     * @param {{revision: number, published: object[], models_loaded: ?number}} state
     * @returns {object[]} models published since the last call
     */
    follow({ revision = 0, published = [], models_loaded: loaded = 0 }) {
        const isFirst = this.revision === null;
        if (revision < this.revision) this.newest = 0; // the server was restarted, and counts from the beginning
        const fresh = isFirst ? [] : published.filter((one) => one.n > this.newest);
        this.newest = published.reduce((most, one) => Math.max(most, one.n), this.newest);
        // a page that has just been loaded is still being drawn: gradio stumbles over an answer for what is missing
        const delay = isFirst ? DRAWN : 0;
        if (revision !== this.revision && revision > 0) {
            setTimeout(() => press(BUTTONS.checkpoint), delay);
            this.areCardsOld = true;
        }
        this.#refreshCards(loaded, delay);
        this.revision = revision;
        const chosen = fresh.filter((one) => one.selected && one.title).pop();
        if (chosen) this.#choose(chosen);
        return fresh;
    }

    /** Not while a model is being loaded (null), when that fails; and once more if one was loaded while it went on. */
    #refreshCards(loaded, delay) {
        const wasDisturbed = this.loadedThen !== null && loaded !== this.loadedThen;
        if (loaded === null || !(this.areCardsOld || wasDisturbed)) return;
        setTimeout(() => press(BUTTONS.others), delay);
        this.loadedThen = this.areCardsOld ? loaded : null;
        this.areCardsOld = false;
    }

    #choose({ title }) {
        if (webui() && typeof window.selectCheckpoint === "function") setTimeout(() => window.selectCheckpoint(title), SETTLE);
    }
}
