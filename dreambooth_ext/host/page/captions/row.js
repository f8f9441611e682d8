// One picture with its caption, what a tagger proposed for it, and what training makes of it.

import { address } from "../shared/api.js";
import { element, fill, say, show } from "../shared/dom.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";
import { trainedText } from "./as_trained.js";

const T = TEXTS.captioning;

export class Row {
    /** @param {object} picture as GET captions lists it  @param {import("./editor.js").CaptionEditor} editor */
    constructor(picture, editor) {
        Object.assign(this, { editor, name: picture.name });
        const { place } = editor;
        this.image = element("img", {
            alt: "", loading: "lazy",
            src: address(["pictures", place.isSet ? place.name : "folder", picture.name], { size: 160, t: picture.stamp, folder: place.isSet ? "" : place.name }),
        });
        this.caption = element("textarea", {
            class: "db-input", rows: "3", readonly: !editor.canChange, "aria-label": plain(T.captionOf, { name: picture.name }), spellcheck: "false",
            on: { change: () => editor.change({ kind: "set", texts: { [this.name]: this.caption.value } }, [this.name]) },
        });
        this.proposal = element("p", { class: "db-cap-proposal", hidden: true });
        this.trained = element("div", { hidden: true });
        this.element = element(
            "li", { class: "db-cap-row" }, this.image,
            element("div", { class: "db-stack db-cap-texts" }, element("span", { class: "db-picture-name", text: picture.name, title: picture.name }), this.caption, this.proposal, this.trained),
        );
    }

    refresh(picture, proposed, trained) {
        if (document.activeElement !== this.caption || this.caption.value === this.known) this.caption.value = picture.caption;
        this.known = picture.caption;
        this.caption.rows = Math.min(8, Math.max(2, Math.ceil(picture.caption.length / 90), picture.caption.split("\n").length));
        show(this.proposal, proposed !== undefined);
        fill(this.proposal, element("b", { text: T.proposal }), " ", element("bdi", { text: proposed || T.noText }));
        show(this.trained, Boolean(trained));
        if (trained && trained !== this.shown) fill(this.trained, trainedText(trained));
        if (!trained) say(this.trained, "");
        this.shown = trained;
    }
}
