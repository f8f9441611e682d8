// What differs in the settings of several runs, by the settings' labels.

import { baseName } from "../shared/format.js";
import { settingText } from "../shared/setting_text.js";
import { TEXTS } from "../shared/texts.js";

const T = TEXTS.compare;

/**
 * @param {object} schema of GET schema, localised
 * @param {object[]} configs of the runs
 * @returns {{name: string, label: string, help: string, values: string[]}[]} settings that are not the same in all
 */
export function differences(schema, configs) {
    const settings = schema.groups.flatMap((group) => group.settings);
    return settings.filter(({ name }) => new Set(configs.map((config) => JSON.stringify(config[name] ?? null))).size > 1).map((setting) => ({
        name: setting.name, label: setting.label, help: setting.help, values: configs.map((config) => shown(setting, config)),
    }));
}

function shown(setting, config) {
    const given = config[setting.name];
    if (!setting.methods.includes(config.method)) return T.unused;
    if (typeof given === "string" && /[\\/]/.test(given) && /(_dir|_model|_file|model_config)$/.test(setting.name)) return baseName(given);
    return settingText(setting, given);
}
