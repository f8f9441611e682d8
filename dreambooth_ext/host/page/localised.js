// Texts in the user's language. The WebUI gives its page the chosen localisation, ours among it (localizations/*.json),
// and translates texts that stand alone by itself; sentences with values in them, tooltips and the like pass through here.

const TRANSLATIONS = globalThis.localization || {};

/** A text, or all texts in an object or list, translated where a translation is known. */
export function localised(value) {
    if (typeof value === "string") return Object.hasOwn(TRANSLATIONS, value) ? TRANSLATIONS[value] : value;
    if (Array.isArray(value)) return value.map(localised);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, localised(one)]));
}

/** The answer of GET schema with what people read of it translated; names and choices stay. */
export function localisedSchema(schema) {
    const about = (one) => ({ ...one, label: localised(one.label), help: localised(one.help) });
    const { identifier } = schema;
    return {
        ...schema,
        methods: localised(schema.methods),
        groups: schema.groups.map((group) => ({
            ...group, title: localised(group.name), settings: group.settings.map(about),
        })),
        identifier: identifier && {
            ...identifier,
            rules: identifier.rules.map((rule) => ({ ...rule, message: localised(rule.message) })),
            known_message: localised(identifier.known_message),
            advice: localised(identifier.advice),
        },
    };
}
