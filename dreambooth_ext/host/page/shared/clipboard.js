// The clipboard.

/** Copies a field's text; returns whether that worked. Only pages over HTTPS or of this machine have the newer API. */
export async function copied(field) {
    try {
        await navigator.clipboard.writeText(field.value);
        return true;
    } catch {
        field.select();
        return document.execCommand("copy");
    }
}
