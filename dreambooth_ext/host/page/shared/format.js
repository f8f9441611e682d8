// Formats numbers for people.

import { localised } from "./localised.js";

/** Bytes: "3.4 GB". Decimal, as disks and cards are sold. */
export function size(bytes) {
    if (!Number.isFinite(bytes)) return "–";
    const units = ["bytes", "kB", "MB", "GB", "TB"];
    let shown = Math.abs(bytes);
    let unit = 0;
    while (shown >= 999.5 && unit < units.length - 1) {
        shown /= 1000;
        unit += 1;
    }
    const digits = unit === 0 || shown >= 100 ? 0 : 1;
    return `${(Math.sign(bytes) * shown).toFixed(digits)} ${units[unit]}`;
}

/** Seconds: "45 s", "12 min", "3 h 05 min", "4 d". */
export function duration(seconds) {
    if (!Number.isFinite(seconds) || seconds < 0) return "–";
    if (seconds < 59.5) return `${Math.max(0, Math.round(seconds))} s`;
    const minutes = Math.round(seconds / 60);
    if (minutes < 60) return `${minutes} min`;
    if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
    return `${Math.round(minutes / 1440)} d`;
}

/** Speed: "2.14 it/s", or "3.2 s/it" where a step takes longer than a second. */
export function speed(perSecond) {
    if (!Number.isFinite(perSecond) || perSecond <= 0) return "–";
    return perSecond >= 1 ? `${perSecond.toFixed(2)} it/s` : `${(1 / perSecond).toFixed(1)} s/it`;
}

/** A number with few digits: 0.0832, 2e-6, 1,500. */
export function number(given) {
    if (given === null || given === undefined || !Number.isFinite(given)) return "–";
    if (given === 0) return "0";
    const much = Math.abs(given);
    if (much < 1e-3 || much >= 1e7) return given.toExponential(much < 1e-3 ? 2 : 1).replace(/\.?0+e/, "e").replace("e+", "e");
    if (Number.isInteger(given)) return given.toLocaleString("en-US");
    return String(Number(given.toPrecision(4)));
}

/** Seconds since 1970: "21 Nov, 14:05" in the browser's format. */
export function moment(seconds) {
    if (!Number.isFinite(seconds)) return "–";
    return new Date(seconds * 1000).toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

/** Seconds since 1970: "14:05:09". */
export function clock(seconds) {
    return Number.isFinite(seconds) ? new Date(seconds * 1000).toLocaleTimeString() : "–";
}

/** A setting's value as users write it. */
export function value(given) {
    if (given === true) return localised("on");
    if (given === false) return localised("off");
    if (given === null || given === undefined) return "";
    if (typeof given === "number") return Number.isInteger(given) ? String(given) : number(given);
    if (Array.isArray(given) && given.every((one) => typeof one === "number")) return given.join(", ");
    if (Array.isArray(given)) return given.every((one) => typeof one !== "object") ? given.join("\n") : JSON.stringify(given);
    return typeof given === "object" ? JSON.stringify(given) : String(given);
}

/** A text as a sentence of its own: messages and reasons are parts of sentences elsewhere. */
export function capital(text) {
    return text.charAt(0).toLocaleUpperCase() + text.slice(1);
}

/** What is wrong, and what to do. */
export function withRemedy({ message, remedy }) {
    return [message, remedy].filter(Boolean).join(" ");
}

/** The last part of a path, with / or \. */
export function baseName(path) {
    return String(path || "").split(/[\\/]/).filter(Boolean).pop() || "";
}
