// Blind votes: two pictures of the same prompt and seed by two models, without names and in random order.

import { button, element, fill, openDialog, say } from "../shared/dom.js";
import { phrase } from "../shared/phrase.js";
import { MIRRORED, TEXTS } from "../shared/texts.js";

const T = TEXTS.votes;

/**
 * @param {object} about
 * @param {object} about.app `fail(error)`
 * @param {{model: any, prompt: any, seed: number, url: string, text: string}[]} about.pictures `text`: the prompt's
 * @param {(model: any) => string} about.nameOf
 * @param {(vote: object) => Promise<object>} about.send keeps a vote; gives `votes` by what `nameOf` names
 * @param {(votes: object) => [any, {better: number, shown: number}][]} about.counted
 * @param {() => void} about.changed called when the dialog is closed after votes
 */
export function voteBlindly({ app, pictures, nameOf, send, counted, changed }) {
    const pairs = shuffled(pairsOf(pictures));
    const prompt = element("p", { class: "db-strong" });
    const stage = element("div", { class: "db-vote-pictures", dir: "ltr" });
    const said = element("p", { class: "db-quiet", role: "status" });
    const tools = element("div", { class: "db-row" });
    let votes = 0;
    let last = null; // what the server counted
    let pair = null;
    let busy = false;

    const choose = async (better) => {
        if (busy || !pair) return;
        busy = true;
        try {
            const [one, other] = pair;
            last = await send({ prompt: one.prompt, seed: one.seed, models: [one.model, other.model], better: better?.model ?? null });
            votes += 1;
            next();
        } catch (error) {
            app.fail(error);
        } finally {
            busy = false;
        }
    };
    const next = () => {
        pair = pairs.pop() || null;
        if (!pair) {
            result(votes ? T.all : T.none);
            return;
        }
        say(prompt, pair[0].text);
        fill(stage, pair.map((one, place) => element("button", {
            type: "button", class: "db-vote-picture", "aria-label": place ? T.right : T.left, on: { click: () => choose(one) },
        }, element("img", { src: one.url, alt: "" }))));
        fill(said, phrase(T.count, { count: votes }), " · ", T.keys);
        fill(tools, button(T.same, () => choose(null)), votes ? button(T.result, () => result("")) : null, button(T.close, () => dialog.close()));
    };
    const result = (text) => {
        if (pair) pairs.push(pair);
        pair = null;
        say(prompt, votes ? T.outcome : "");
        const rows = last ? counted(last).sort(([, a], [, b]) => b.better / b.shown - a.better / a.shown) : [];
        fill(stage, rows.length ? element("dl", { class: "db-facts", dir: MIRRORED ? "rtl" : "ltr" }, rows.map(([model, count]) => [
            element("dt", { text: nameOf(model) }), element("dd", { class: "db-row" }, bar(count), element("span", {}, phrase(T.of, count))),
        ])) : null);
        say(said, text);
        fill(tools, pairs.length ? button(T.further, next) : null, button(T.close, () => dialog.close(), { class: "db-primary" }));
    };

    const dialog = openDialog(T.title, { class: "db-vote" }, prompt, stage, said, tools);
    dialog.addEventListener("keydown", (event) => {
        const place = { ArrowLeft: 0, ArrowRight: 1, ArrowDown: -1 }[event.key];
        if (place === undefined || !pair) return;
        event.preventDefault();
        choose(place < 0 ? null : pair[place]);
    });
    dialog.addEventListener("close", () => votes && changed());
    next();
}

/** How often it was chosen, as a bar. */
function bar({ better, shown }) {
    return element("span", { class: "db-meter" }, element("span", { style: { width: `${(100 * better) / Math.max(1, shown)}%` } }));
}

/** Every two pictures of the same prompt and seed, each pair in random order. */
function pairsOf(pictures) {
    const groups = new Map();
    for (const one of pictures) {
        const key = JSON.stringify([one.prompt, one.seed]);
        groups.set(key, [...(groups.get(key) || []), one]);
    }
    return [...groups.values()].flatMap((group) => group.flatMap((one, i) => group.slice(i + 1).map((other) => shuffled([one, other]))));
}

function shuffled(given) {
    const list = [...given];
    for (let i = list.length - 1; i > 0; i -= 1) {
        const j = Math.floor(Math.random() * (i + 1));
        [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
}
