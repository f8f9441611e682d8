// The page before there is a tab: the trainer's environment is made, and the same address then shows the tab.

import { api } from "../shared/api.js";
import { element, fill, say, show } from "../shared/dom.js";
import { Environment } from "./environment.js";
import { phrase } from "../shared/phrase.js";
import { MIRRORED, TEXTS } from "../shared/texts.js";
import { standAlone } from "../shared/theme.js";

const T = TEXTS.environment;
const EVERY = 1000; // milliseconds
const LOST = 20; // answers that may be missing while the other server starts

class Setup {
    constructor(place) {
        place.lang = TEXTS.code;
        place.dir = MIRRORED ? "rtl" : "ltr";
        standAlone(place);
        this.misses = 0;
        this.environment = new Environment({ alone: true, fail: (error) => this.fail(error) });
        this.version = element("span", { class: "db-version" });
        this.note = element("p", { class: "db-quiet", role: "status", text: T.afterwards });
        this.trouble = element("div", { class: "db-banner db-banner-bad", role: "alert", hidden: true });
        place.replaceChildren(element(
            "div", { class: "db-page" },
            element("header", { class: "db-header" }, element("h2", { class: "db-title" }, element("span", { text: TEXTS.title }), " ", this.version)),
            this.trouble, this.environment.element, this.note,
        ));
        this.#loop();
    }

    fail(error) {
        fill(this.trouble, element("b", { text: error.message }), " ", element("span", { text: error.remedy || "" }));
        show(this.trouble, true);
    }

    async #loop() {
        try {
            const found = await api.get(["environment"]);
            if (!found.setting_up) {
                location.reload(); // the tab's own server answers
                return;
            }
            this.misses = 0;
            show(this.trouble, false);
            say(this.note, T.afterwards);
            fill(this.version, phrase(TEXTS.version, { version: found.version }));
            this.environment.refresh(found);
            this.#title(found);
        } catch (error) {
            this.misses += 1;
            if (!error.isLost || this.misses > LOST) {
                say(this.note, "");
                this.fail(error);
            } else this.#starting();
        }
        setTimeout(() => this.#loop(), EVERY);
    }

    /** The first server has gone, the other one is coming. */
    #starting() {
        if (this.environment.state?.building || this.misses > 1) say(this.note, T.starting);
    }

    #title({ building }) {
        const percent = building && Number.isFinite(building.fraction) ? `${Math.floor(100 * building.fraction)} % ` : "";
        document.title = `${percent}${TEXTS.title}`;
    }
}

new Setup(document.getElementById("dreambooth_ext"));
