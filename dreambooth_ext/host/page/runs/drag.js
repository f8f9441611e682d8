// Rows that are dragged into another order by a handle, with mouse, pen or finger.

/**
 * @param {HTMLElement} list its children are the rows
 * @param {string} handle the selector of what a row is dragged by; its style has `touch-action: none`
 * @param {(rows: HTMLElement[]) => void} dropped called with the rows as they are then, where their order has changed
 * @returns {() => boolean} whether a row is being dragged
 */
export function makeDraggable(list, handle, dropped) {
    let row = null;
    let before = [];

    const end = (event) => {
        if (!row) return;
        row.classList.remove("db-dragged");
        row = null;
        const now = [...list.children];
        if (event.type === "pointercancel") list.append(...before);
        else if (now.some((one, place) => one !== before[place])) dropped(now);
    };

    list.addEventListener("pointerdown", (event) => {
        const grip = event.target.closest(handle);
        if (!grip || event.button !== 0 || row) return;
        row = [...list.children].find((one) => one.contains(grip));
        before = [...list.children];
        row.classList.add("db-dragged");
        grip.setPointerCapture(event.pointerId);
    });
    // The others move past the row: the browser lets go of what is moved itself.
    list.addEventListener("pointermove", (event) => {
        if (!row) return;
        const { previousElementSibling: above, nextElementSibling: below } = row;
        if (above && event.clientY < middle(above)) list.insertBefore(above, row.nextSibling);
        else if (below && event.clientY > middle(below)) list.insertBefore(below, row);
    });
    list.addEventListener("pointerup", end);
    list.addEventListener("pointercancel", end);
    return () => row !== null;
}

function middle(row) {
    const { top, height } = row.getBoundingClientRect();
    return top + height / 2;
}
