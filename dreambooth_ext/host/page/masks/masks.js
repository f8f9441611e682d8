// Masks below the pictures: what counts shown on the cards and large, and masks made for all pictures of a set.

import { api } from "../shared/api.js";
import { button, element, fill, memory, openDialog, say, show, sureButton } from "../shared/dom.js";
import { withRemedy } from "../shared/format.js";
import { phrase, plain } from "../shared/phrase.js";
import { MIRRORED, TEXTS } from "../shared/texts.js";

const T = TEXTS.masks;
const PATIENCE = 200_000; // milliseconds for one mask: large models on slow machines
const LARGE = 1024; // pixels

export class Masks {
    /**
     * @param {import("../train/settings.js").Settings} settings
     * @param {{own: (place: object) => Promise<object>, changed: () => void, drawn: () => void}} about `own`: the place
     *     where pictures of a place may be changed; `changed`: there are other masks now; `drawn`: cards look different
     */
    constructor(settings, about) {
        Object.assign(this, { settings, ...about });
        this.isShown = memory.read("masks", false);
        this.element = element("details", { class: "db-masks", hidden: true }, element("summary", { text: T.title }), this.#build());
    }

    #build() {
        this.count = element("span", { class: "db-quiet" });
        this.use = element("span", { class: "db-quiet" });
        this.useButton = button("", () => this.settings.give("masked_loss", this.isUsed ? undefined : true), { class: "db-small" });
        this.toggle = button(T.show, () => this.#show(!this.isShown), { class: "db-small" });
        this.large = button(T.large, () => this.#open(0), { class: "db-small" });
        this.kind = element(
            "select", { class: "db-input", "aria-label": T.by, on: { change: () => this.refresh(this.place, this.listing) } },
            Object.entries(T.kinds).map(([value, text]) => element("option", { value, text })),
        );
        this.model = element("input", { type: "text", class: "db-input", spellcheck: "false", autocomplete: "off", placeholder: "isnet.onnx", "aria-label": T.model });
        this.make = element("span", { class: "db-row" });
        this.said = element("p", { class: "db-quiet", role: "status" });
        this.failures = element("ul", { class: "db-quiet db-mask-failures" });
        this.tools = element("div", { class: "db-row" }, element("span", { text: T.by }), this.kind, this.model, this.make);
        return element(
            "div", { class: "db-stack" },
            element("div", { class: "db-row" }, this.count, this.use, this.useButton, this.toggle, this.large),
            this.tools, this.said, this.failures,
        );
    }

    get isUsed() {
        return this.settings.given("masked_loss") === true;
    }

    /** Called when the pictures are listed anew, or the form's answers have changed. */
    refresh(place, listing) {
        Object.assign(this, { place, listing });
        const masked = listing.filter((one) => one.mask).length;
        show(this.element, listing.length > 0);
        fill(this.count, phrase(T.count, { count: masked, total: listing.length }));
        say(this.use, masked ? (this.isUsed ? T.on : T.off) : "");
        for (const one of [this.useButton, this.toggle, this.large]) show(one, masked > 0);
        say(this.useButton, this.isUsed ? T.turnOff : T.turnOn);
        this.toggle.setAttribute("aria-pressed", String(this.isShown));
        show(this.tools, place.isSet);
        show(this.model, this.kind.value === "model");
        this.kind.querySelector('[value="model"]').disabled = Boolean(this.settings.host.restricted);
        if (!this.working) this.#offer(masked);
    }

    #offer(masked) {
        const all = masked && masked === this.listing.length;
        const remove = masked ? sureButton(T.remove, T.removeSure, () => this.#all(this.listing.filter((one) => one.mask), (set, one) => this.#delete(set, one)), { class: "db-small" }) : null;
        const make = (some) => this.#all(some, (set, one) => this.#post(set, one), true);
        fill(this.make, all
            ? sureButton(T.makeAll, T.makeSure, () => make(this.listing), { class: "db-small" })
            : button(T.make, () => make(this.listing.filter((one) => !one.mask)), { class: "db-small" }), remove);
    }

    // --- making

    #post(set, picture) {
        const by = this.kind.value === "model" ? this.model.value.trim() : this.kind.value;
        return api.post(["edits", set, picture.name, "mask"], { by, stamp: picture.stamp }, PATIENCE);
    }

    #delete(set, picture) {
        return api.delete(["edits", set, picture.name, "mask"], { query: { stamp: picture.stamp } });
    }

    /** Does something with each picture, one after the other, until Stop. What fails for one picture is told below. */
    async #all(pictures, work, tells = false) {
        const failed = [];
        let done = 0;
        this.working = true;
        fill(this.failures);
        fill(this.make, button(T.stop, () => (this.working = false), { class: "db-small" }));
        try {
            const { name } = await this.own(this.place);
            for (const picture of pictures) {
                if (!this.working) break;
                say(this.said, tells ? plain(T.making, { done: done + failed.length, total: pictures.length }) : "");
                try {
                    await work(name, picture);
                    done += 1;
                } catch (error) {
                    failed.push([picture.name, error]);
                    if (error.field !== "picture") break; // it would fail for all
                }
            }
        } catch (error) {
            failed.push([this.place.name, error]);
        }
        this.working = false;
        say(this.said, tells ? plain(T.made, { count: done }) + (failed.length ? ` ${plain(T.failed, { count: failed.length })}` : "") : "");
        fill(this.failures, failed.map(([name, error]) => element("li", { text: error.message.includes(name) ? withRemedy(error) : `${name}: ${withRemedy(error)}` })));
        if (done && !this.isShown) this.#show(true);
        this.changed();
    }

    // --- showing

    #show(isShown) {
        this.isShown = isShown;
        memory.write("masks", isShown);
        this.toggle.setAttribute("aria-pressed", String(isShown));
        this.drawn();
    }

    /** Opens the pictures large, one at a time, with what does not count dimmed or as they are. */
    #open(at) {
        let number = at;
        let dims = true;
        const image = element("img", { class: "db-mask-large" });
        const said = element("p", { class: "db-quiet", role: "status" });
        const toggle = button(T.show, () => ((dims = !dims), draw()), { class: "db-small" });
        const draw = () => {
            const picture = this.listing[number];
            image.src = this.place.thumbnail(picture, LARGE, dims);
            image.alt = picture.name;
            say(said, plain(T.place, { name: picture.name, number: number + 1, count: this.listing.length }) + (picture.mask ? "" : `: ${T.noMask}`));
            toggle.setAttribute("aria-pressed", String(dims));
        };
        const go = (by) => ((number = (number + by + this.listing.length) % this.listing.length), draw());
        const dialog = openDialog(
            T.title, { class: "db-mask-dialog" }, image, said,
            element("div", { class: "db-row" }, button("‹", () => go(-1), { "aria-label": T.previous }), button("›", () => go(1), { "aria-label": T.next }), toggle,
                button(T.close, () => dialog.close(), { class: "db-primary" })),
        );
        dialog.addEventListener("keydown", (event) => {
            const right = MIRRORED ? -1 : 1;
            const by = { ArrowLeft: -right, ArrowRight: right }[event.key];
            if (by) (event.preventDefault(), go(by));
        });
        draw();
    }
}
