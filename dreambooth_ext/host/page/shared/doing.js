// What a button starts: it rests meanwhile, and a failure is shown.

/**
 * @param {object} app `fail(error)`
 * @param {HTMLButtonElement|null} pressed the button; null: it goes away, or may be pressed again
 * @param {() => Promise<any>} work
 * @param {() => void} [changed] called at the end in any case
 */
export async function doing(app, pressed, work, changed = () => {}) {
    if (pressed) pressed.disabled = true;
    try {
        await work();
    } catch (error) {
        app.fail(error);
    } finally {
        if (pressed) pressed.disabled = false;
        changed();
    }
}
