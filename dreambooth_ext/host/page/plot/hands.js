// What hands do on a plot: drag, wheel, two fingers, keys. The plot says what is seen; here is how that is changed.

/**
 * @param {object} plot `canvas`, `selection`, `seen()`, `area()`, `look(from, to)`, `point(x, aloud)`, `reset()`, `toggleLog()`
 */
export function handle(plot) {
    const hands = new Hands(plot);
    const { canvas } = plot;
    canvas.addEventListener("wheel", (event) => hands.onWheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => hands.onKey(event));
    canvas.addEventListener("dblclick", () => plot.reset());
    canvas.addEventListener("pointerdown", (event) => hands.onDown(event));
    canvas.addEventListener("pointermove", (event) => hands.onMove(event));
    canvas.addEventListener("pointerup", (event) => hands.onUp(event));
    canvas.addEventListener("pointercancel", (event) => hands.onUp(event, false));
    canvas.addEventListener("pointerleave", () => plot.point(null));
    canvas.addEventListener("blur", () => plot.point(null));
    return hands;
}

class Hands {
    constructor(plot) {
        this.plot = plot;
        this.pointers = new Map(); // by their number: x in pixels
        this.start = null; // where a drag began
        this.gap = null; // of two fingers
    }

    zoom(factor, share = 0.5) {
        const [from, to] = this.plot.seen();
        const width = (to - from) * factor;
        const fixed = from + (to - from) * share;
        this.plot.look(fixed - width * share, fixed + width * (1 - share));
    }

    #pan(share) {
        const [from, to] = this.plot.seen();
        this.plot.look(from + (to - from) * share, to + (to - from) * share);
    }

    /** The page must stay scrollable: the wheel zooms where the plot has been clicked, or with Ctrl. */
    onWheel(event) {
        if (document.activeElement !== this.plot.canvas && !event.ctrlKey) return;
        event.preventDefault();
        const { left, width } = this.plot.area();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, Math.min(Math.max((event.offsetX - left) / width, 0), 1));
    }

    onKey(event) {
        const steps = { ArrowLeft: -0.2, ArrowRight: 0.2 };
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.key in steps && event.shiftKey) this.#walk(Math.sign(steps[event.key]));
        else if (event.key in steps) this.#pan(steps[event.key]);
        else if (event.key === "+" || event.key === "=") this.zoom(0.5);
        else if (event.key === "-") this.zoom(2);
        else if (event.key === "0" || event.key === "Escape") this.plot.reset();
        else if (event.key === "l") this.plot.toggleLog();
        else return;
        event.preventDefault();
    }

    /** Moves the read-out by one pixel-wide step, for keys. */
    #walk(direction) {
        const { left, width } = this.plot.area();
        const now = this.plot.pointer ?? left + width;
        this.plot.point(Math.min(Math.max(now + (direction * width) / 50, left), left + width), true);
    }

    onDown(event) {
        this.plot.canvas.focus({ preventScroll: true });
        this.pointers.set(event.pointerId, event.offsetX);
        if (event.pointerType === "mouse" && event.button !== 0) return;
        this.plot.canvas.setPointerCapture(event.pointerId);
        this.start = { x: event.offsetX, seen: this.plot.seen(), touch: event.pointerType === "touch", moved: false };
        this.gap = this.#fingers();
    }

    onMove(event) {
        if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, event.offsetX);
        if (this.pointers.size === 2) this.#pinch();
        else if (this.start && this.start.touch) this.#drag(event);
        else if (this.start) this.#select(event);
        this.plot.point(event.offsetX);
    }

    onUp(event, chosen = true) {
        this.pointers.delete(event.pointerId);
        if (this.start && !this.start.touch && this.start.moved && chosen) {
            const [from, to] = [this.start.x, event.offsetX].sort((a, b) => a - b).map((x) => this.plot.valueAt(x));
            this.plot.look(from, to);
        }
        this.plot.selection.hidden = true;
        this.start = null;
        if (event.pointerType === "touch") this.plot.point(null);
    }

    /** The distance of two fingers, and their middle. */
    #fingers() {
        const [a, b] = [...this.pointers.values()];
        return b === undefined ? null : { width: Math.max(20, Math.abs(a - b)), middle: (a + b) / 2 };
    }

    #pinch() {
        const now = this.#fingers();
        if (this.gap) {
            const { left, width } = this.plot.area();
            this.zoom(this.gap.width / now.width, Math.min(Math.max((now.middle - left) / width, 0), 1));
        }
        this.gap = now;
        this.start = null;
    }

    #drag(event) {
        const [from, to] = this.start.seen;
        const moved = ((this.start.x - event.offsetX) / this.plot.area().width) * (to - from);
        this.plot.look(from + moved, to + moved);
    }

    #select(event) {
        const { selection } = this.plot;
        this.start.moved = Math.abs(event.offsetX - this.start.x) > 6;
        selection.hidden = !this.start.moved;
        const [from, to] = [this.start.x, event.offsetX].sort((a, b) => a - b);
        selection.style.left = `${from}px`;
        selection.style.width = `${to - from}px`;
    }
}
