// The pictures that a run learns from, small, beside what it draws.

import { address, api } from "../shared/api.js";
import { button, element, fill, show } from "../shared/dom.js";
import { calledAs } from "../pictures/sets.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.previews;
const [SMALL, LARGE] = [96, 768]; // pixels of the longest side

export class Subject {
    /** @param {(number: number) => void} onOpen called with a picture's place in `pictures` */
    constructor(onOpen) {
        this.onOpen = onOpen;
        this.id = "";
        this.pictures = []; // {number, name}
        this.list = element("div", { class: "db-subject-list", role: "list" });
        this.more = element("span", { class: "db-quiet" });
        this.element = element("div", { class: "db-subject", hidden: true }, element("p", { class: "db-quiet" }, T.subject, this.more), this.list);
    }

    /** From now on those of this run. */
    follow(id) {
        this.id = id;
        this.pictures = [];
        this.isKnown = false;
        fill(this.list);
        show(this.element, false);
    }

    /** Asks for them, once. */
    async load() {
        const { id } = this;
        if (this.isKnown || !id) return;
        this.isKnown = true;
        try {
            const { pictures = [], count = 0, sets = [] } = await api.get(["runs", id, "subject"]);
            if (id === this.id) this.#draw(pictures, count, sets);
        } catch (error) {
            if (id === this.id) this.isKnown = error.status === 404;
        }
    }

    #draw(pictures, count, sets) {
        this.pictures = pictures;
        show(this.element, pictures.length > 0);
        fill(this.more, count > pictures.length ? [" · ", phrase(T.subjectOf, { shown: pictures.length, count })] : null, sets.map(({ set, title }) => [" · ", phrase(TEXTS.sets.from, { name: calledAs({ name: set, title }) })]));
        fill(this.list, pictures.map((one, place) => {
            const image = element("img", { src: this.url(place, SMALL), alt: one.name, loading: "lazy", height: "72" });
            const made = button("", () => this.onOpen(place), { class: "db-subject-picture", title: one.name, "aria-label": one.name });
            image.addEventListener("error", () => made.remove()); // it is no longer there
            made.append(image);
            return element("span", { role: "listitem" }, made);
        }));
    }

    url(place, size = LARGE) {
        return address(["runs", this.id, "subject", this.pictures[place].number], { size });
    }
}
