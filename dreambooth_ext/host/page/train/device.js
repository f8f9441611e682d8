// The devices that a run can be trained on, to choose from.

import { element, fill, say } from "../shared/dom.js";
import { plain } from "../shared/phrase.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.devices;

/** "NVIDIA GeForce RTX 4090, 24 GB": as the cards are sold, in units of 2^30 bytes. */
function titled({ title, memory }) {
    return Number.isFinite(memory) ? `${title}, ${Math.round(memory / 2 ** 30)} GB` : title;
}

/** Choices of several cards for one run: neighbours two by two, and all. */
function together(devices) {
    const cards = devices.map((one) => one.name).filter((name) => /^cuda:\d+$/.test(name));
    const groups = cards.flatMap((_, at) => (at % 2 ? [cards.slice(at - 1, at + 1)] : []));
    if (cards.length > 2) groups.push(cards);
    return groups.map((group) => {
        const value = [group[0], ...group.slice(1).map((name) => name.slice(5))].join(",");
        return [value, plain(T.together, { value, count: group.length })];
    });
}

export class DeviceOptions {
    /** @param {HTMLSelectElement} control  @param {HTMLOptionElement} automatic its first option */
    constructor(control, automatic) {
        Object.assign(this, { control, automatic });
    }

    /** @param {object[]} devices as GET host lists them  @param {string|undefined} given also where it is none of them */
    offer(devices = [], given) {
        say(this.automatic, plain(T.automatic, { device: devices.length ? titled(devices[0]) : T.cpu }));
        const known = [...devices.map((one) => [one.name, `${one.name}: ${titled(one)}`]), ...together(devices), ["cpu", T.cpu]];
        if (given !== undefined && !known.some(([name]) => name === given)) known.push([given, given]);
        const key = JSON.stringify(known);
        if (key === this.key) return;
        this.key = key;
        fill(this.control, this.automatic, known.map(([value, text]) => element("option", { value, text })));
    }
}
