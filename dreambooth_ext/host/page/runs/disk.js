// What a run takes on disk, as a bar: training states, models, previews and the rest, beside the largest run.

import { element, fill } from "../shared/dom.js";
import { size } from "../shared/format.js";
import { phrase } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.disk;
const PARTS = ["checkpoints", "artifacts", "samples"]; // as the server names them; what is left is "rest"

export class DiskBar {
    constructor() {
        this.bar = element("div", { class: "db-disk-bar", "aria-hidden": "true" });
        this.legend = element("div", { class: "db-disk-legend db-quiet" });
        this.element = element("div", { class: "db-disk" }, this.bar, this.legend);
    }

    /** @param {Object<string, number>|null} sizes bytes, `total` and by part  @param {number} most bytes of the largest run */
    refresh(sizes, most) {
        const key = JSON.stringify([sizes, most]);
        if (key === this.key) return;
        this.key = key;
        if (!sizes?.total) {
            fill(this.bar);
            fill(this.legend);
            return;
        }
        const known = PARTS.map((part) => [part, sizes[part] || 0]);
        const parts = [...known, ["rest", sizes.total - known.reduce((sum, [, bytes]) => sum + bytes, 0)]].filter(([, bytes]) => bytes > 0);
        fill(this.bar, parts.map(([part, bytes]) => element("span", { data: { part }, style: { width: `${(100 * bytes) / Math.max(most, 1)}%` } })));
        fill(this.legend, parts.filter(([, bytes]) => bytes >= 0.005 * sizes.total).map(([part, bytes]) => (
            element("span", { class: "db-disk-part", data: { part } }, element("span", {}, phrase(T[part], { size: size(bytes) })))
        )));
    }
}
