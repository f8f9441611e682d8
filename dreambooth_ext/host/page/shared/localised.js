// Translates texts into the user's language. The WebUI gives its page the chosen localisation, with ours in it
// (localizations/*.json), and translates plain texts by itself; here are sentences with values, tooltips etc.

import { memory } from "./dom.js";

const RIGHT_TO_LEFT = new Set(["ar", "fa", "he", "ur"]);
const PATIENCE = 5000; // milliseconds for a language; then the page is English
/** Whether the page chooses its language itself: only without a WebUI. */
export const choosesLanguage = !globalThis.localization && typeof globalThis.gradioApp !== "function";
const TRANSLATIONS = globalThis.localization || (choosesLanguage ? await chosenTranslations() : {});

async function asked(path) {
    const answer = await fetch(new URL(`../../${path}`, import.meta.url), { signal: AbortSignal.timeout(PATIENCE) });
    return answer.ok ? answer.json() : {};
}

/** The available languages besides English, such as "ru_RU". */
export async function allLanguages() {
    return (await asked("languages")).languages || [];
}

/** The language that the user chose here, "en" for English; else the browser's preference. */
export async function language() {
    const chosen = memory.read("language");
    if (chosen) return chosen;
    const preferred = navigator.languages.map((one) => one.slice(0, 2).toLowerCase());
    if (!preferred.length || preferred[0] === "en") return "en";
    const known = await allLanguages();
    for (const one of preferred) {
        const found = one === "en" ? "en" : known.find((name) => name.startsWith(`${one}_`));
        if (found) return found;
    }
    return "en";
}

async function chosenTranslations() {
    try {
        const name = await language();
        document.documentElement.lang = name.slice(0, 2);
        document.documentElement.dir = direction(name.slice(0, 2));
        return name === "en" ? {} : await asked(`languages/${encodeURIComponent(name)}`);
    } catch {
        return {}; // the page says itself that nobody answers
    }
}

/** A language's writing direction: "rtl" or "ltr". */
export function direction(code) {
    return RIGHT_TO_LEFT.has(code) ? "rtl" : "ltr";
}

/** A text, or all texts in an object or list, translated if there is a translation. */
export function localised(value) {
    if (typeof value === "string") return Object.hasOwn(TRANSLATIONS, value) ? TRANSLATIONS[value] : value;
    if (Array.isArray(value)) return value.map(localised);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, localised(one)]));
}

// --- what the server says with a code: {"code": "pictures.too_few", "values": {"count": 3}, "message": ..., "remedy": ...},
// or {"reason": ..., "reason_code": ..., "reason_values": ...}; the texts are English, and stay where no translation is

/** The translation of a code with its values, or the English text. */
function translated(code, values, english) {
    if (!Object.hasOwn(TRANSLATIONS, code)) return english;
    return TRANSLATIONS[code].replace(/\{(\w+)\}/g, (hole, name) => (values && Object.hasOwn(values, name) ? written(values[name]) : hole));
}

/** A value in a sentence: a text, a number, a message of its own, or a list. */
function written(value) {
    if (Array.isArray(value)) return value.map(written).join(value.some((one) => one?.code) ? "; " : ", ");
    return value?.code ? translated(value.code, value.values, value.text) : String(value);
}

/** The message of a refusal as a complete sentence: some continue after the field's name (host/web/responses.py). */
function refused({ code, values, field, error }) {
    const message = translated(code, values, error);
    if (message === error) return error;
    if (field && error.startsWith(`${field}: `)) return `${field}: ${message}`;
    return message.charAt(0).toLocaleUpperCase() + message.slice(1);
}

/** An object of an answer, with the texts that have codes translated. */
function withTexts(object) {
    for (const name of Object.keys(object)) {
        const text = name.slice(0, -"_code".length);
        if (name.endsWith("_code") && typeof object[text] === "string") {
            object[text] = translated(object[name], object[`${text}_values`], object[text]);
        }
    }
    if (typeof object.code !== "string") return object;
    for (const text of ["message", "what"]) {
        if (typeof object[text] === "string") object[text] = translated(object.code, object.values, object[text]);
    }
    if (typeof object.error === "string") object.error = refused(object);
    if (object.remedy) object.remedy = translated(`${object.code}.remedy`, object.values, object.remedy);
    return object;
}

/** A reviver for JSON.parse that translates an answer's messages. Names, paths and settings stay as they are. */
export const reviver = (key, value) => (value && typeof value === "object" && !Array.isArray(value) ? withTexts(value) : value);

/** The answer of GET schema with its labels and help translated; names and choices stay as they are. */
export function localisedSchema(schema) {
    const about = (one) => ({ ...one, label: localised(one.label), help: localised(one.help) });
    return {
        ...schema,
        methods: localised(schema.methods),
        groups: schema.groups.map((group) => ({
            ...group, title: localised(group.name), settings: group.settings.map(about),
        })),
    };
}
