// One picture's card: thumbnail, size, caption. It belongs to one place and makes requests only for that.

import { address, api } from "../shared/api.js";
import { button, element, say } from "../shared/dom.js";
import { isolated, plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";
import { TYPES, stem } from "./uploads.js";

const T = TEXTS.pictures;
const NARROW = 3; // sides as 3 to 1: beyond, a crop leaves little of the picture

/** Where pictures are: a set of uploads, or a folder of the server. */
export class Place {
    constructor({ source, set, folder }) {
        this.isSet = source === "upload";
        this.name = this.isSet ? set : folder.trim();
    }

    equals(other) {
        return Boolean(other) && this.isSet === other.isSet && this.name === other.name;
    }

    /** The query for GET pictures; empty if there is nothing to ask for. */
    get query() {
        return this.name ? { [this.isSet ? "set" : "folder"]: this.name } : null;
    }

    /** @param {boolean} dims show what its mask leaves out dimmed */
    thumbnail(picture, size = 160, dims = false) {
        const query = { size, t: picture.stamp, folder: this.isSet ? "" : this.name, mask: dims ? picture.mask : "" };
        return address(["pictures", this.isSet ? this.name : "folder", picture.name], query);
    }
}

export class Card {
    /**
     * @param {{picture: object, place: Place, remove: (card: Card) => void, saved: () => void, edit: (name: string) => void, own: (place: Place) => Promise<Place>}} about
     *     `own`: the place where pictures of a place may be changed
     */
    constructor({ picture, place, remove, saved, edit, own: changed }) {
        Object.assign(this, { picture, place, saved, changed });
        const own = place.isSet;
        this.image = element("img", { alt: picture.name, loading: "lazy", src: place.thumbnail(picture) });
        this.note = element("span", { class: "db-note" });
        this.findings = element("div", { class: "db-findings" }); // findings.js fills it
        this.caption = element("textarea", {
            class: "db-input db-caption", rows: "3", readonly: !own, "aria-label": plain(T.captionOf, { name: picture.name }),
            placeholder: T.noCaption, on: { change: () => this.#saveCaption() },
        });
        this.element = element(
            "li", { class: "db-picture" }, this.image,
            own ? button("×", () => remove(this), { class: "db-remove", title: T.remove, "aria-label": plain(T.removeOne, { name: picture.name }) }) : null,
            button("✎", () => edit(this.name), { class: "db-edit", title: TEXTS.editor.edit, "aria-label": plain(TEXTS.editor.editOne, { name: picture.name }) }),
            element("span", { class: "db-picture-name", text: picture.name, title: picture.name }), this.note, this.findings, this.caption,
        );
    }

    get name() {
        return this.picture.name;
    }

    /** @param {object} picture as GET pictures lists it now  @param {number} smallest side that needs no warning */
    refresh(picture, smallest) {
        this.picture = picture;
        this.look(this.dims);
        const { width, height, problem } = picture;
        const [short, long] = [Math.min(width, height), Math.max(width, height)];
        const isSmall = width && short < smallest;
        const isNarrow = width && long > NARROW * short;
        const size = width ? `${width} × ${height}` : "";
        const mark = isNarrow ? T.isNarrow : isSmall ? T.isSmall : "";
        say(this.note, problem || `${isolated(size)} ${mark}`.trim());
        this.note.classList.toggle("db-warn", Boolean(problem || mark));
        this.note.title = problem || (isNarrow ? T.narrow : isSmall ? T.small : "");
        this.element.classList.toggle("db-broken", Boolean(problem));
        if (document.activeElement !== this.caption) this.caption.value = picture.caption || "";
    }

    /** Shows the picture, with what its mask leaves out dimmed or not. */
    look(dims) {
        this.dims = dims;
        const shown = this.place.thumbnail(this.picture, 160, dims);
        if (this.image.src !== shown) this.image.src = shown;
    }

    async #saveCaption() {
        const words = this.caption.value.trim();
        try {
            const { name } = await this.changed(this.place);
            await api.upload(["pictures", name, `${stem(this.name)}.txt`], new Blob([words]), {
                type: TYPES.txt, query: { picture: this.name, stamp: this.picture.stamp },
            });
            this.saved();
        } catch (error) {
            say(this.note, `${T.captionNotSaved} ${error.message}`);
            this.note.classList.add("db-warn");
        }
    }

    /** Deletes exactly this picture. Throws Failure if the server refuses. */
    async delete() {
        const { name } = await this.changed(this.place);
        return api.delete(["pictures", name, this.name], { query: { stamp: this.picture.stamp } });
    }
}
