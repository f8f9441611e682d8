// What people read of a setting's value: also where it is a method, a type of subject, or left out.

import { baseName, value as written } from "./format.js";
import { TEXTS } from "./texts.js";

/** @param {object} about the setting, of the schema  @param {any} given its value; null or undefined: left out */
export function settingText(about, given) {
    if (given === null || given === undefined) return about.filled_in ? TEXTS.advanced.auto : TEXTS.advanced.unset;
    if (about.name === "method") return TEXTS.methods[given] || given;
    if (about.name === "subject_type") return TEXTS.types[given]?.[0] || given;
    if (about.name === "concepts") return given.map((one) => one.instance_prompt || baseName(one.instance_data_dir)).join("\n") || "–";
    return written(given) || "–";
}
