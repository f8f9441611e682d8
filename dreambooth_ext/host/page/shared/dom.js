// Helpers that create elements. Text always becomes a text node: nothing here parses markup.

/**
 * An element. In `about`: `class`, `text`, `on` ({event: handler}), `data` ({name: value}), `style` ({property: value});
 * anything else is an attribute (true: present, false or null: absent). Children may be elements, texts, lists or null.
 * @param {string} tag
 * @param {Object<string, any>} [about]
 * @param {...any} children
 * @returns {HTMLElement}
 */
export function element(tag, about = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(about)) {
        if (value === null || value === undefined || value === false) continue;
        if (name === "class") made.className = value;
        else if (name === "text") made.textContent = String(value);
        else if (name === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
        else if (name === "data") Object.assign(made.dataset, value);
        else if (name === "style") for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
        else made.setAttribute(name, value === true ? "" : String(value));
    }
    append(made, children);
    return made;
}

/** Adds children, which may be nested lists; null, undefined and false are left out. */
export function append(parent, ...children) {
    for (const child of children.flat(Infinity)) {
        if (child === null || child === undefined || child === false) continue;
        parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return parent;
}

/** Replaces all children. */
export function fill(parent, ...children) {
    parent.replaceChildren();
    return append(parent, children);
}

/** A button; `about` as in `element`. */
export function button(text, onclick, about = {}) {
    const { class: extra = "", ...others } = about;
    return element("button", { type: "button", class: `db-button ${extra}`.trim(), text, on: { click: onclick }, ...others });
}

/** A button that asks for confirmation in place: only a second press within five seconds runs it. */
export function sureButton(text, question, run, about = {}) {
    let timer = 0;
    const calm = () => {
        clearTimeout(timer);
        timer = 0;
        made.textContent = text;
        made.classList.remove("db-danger");
    };
    const made = button(text, () => {
        if (timer) {
            calm();
            run();
            return;
        }
        made.textContent = question;
        made.classList.add("db-danger");
        timer = setTimeout(calm, 5000);
    }, { ...about, "aria-live": "polite" });
    made.addEventListener("blur", () => timer && calm());
    return made;
}

/** Sets a text only if it changes, so that screen readers and selections are not disturbed. */
export function say(node, text) {
    const next = text === null || text === undefined ? "" : String(text);
    if (node.textContent !== next) node.textContent = next;
}

/** Shows or hides an element. */
export function show(node, visible) {
    if (node.hidden === Boolean(visible)) node.hidden = !visible;
}

/** Opens a dialog below a heading, and returns it; it goes away when it is closed. `about` as in `element`. */
export function openDialog(title, about, ...children) {
    const { class: extra = "", ...others } = about;
    const made = element("dialog", { class: `db-ask ${extra}`.trim(), "aria-label": title, ...others }, element("h3", { class: "db-h", text: title }), children);
    made.addEventListener("keydown", (event) => event.stopPropagation()); // the WebUI has keys of its own
    made.addEventListener("close", () => made.remove());
    (document.querySelector(".db-page") || document.body).append(made);
    made.showModal();
    return made;
}

/** What stands for a colour beside a name. @param {string} colour a property of the style */
export function swatch(colour, extra = "") {
    return element("span", { class: `db-swatch ${extra}`.trim(), style: { "--db-own": `var(${colour})` } });
}

let last = 0;

/** An id that no other element of the page has. */
export function uniqueId(stem) {
    last += 1;
    return `dreambooth_${stem}_${last}`;
}

/** Calls `run` once, `wait` milliseconds after the last call. */
export function debounced(run, wait) {
    let timer = 0;
    const later = (...given) => {
        clearTimeout(timer);
        timer = setTimeout(() => run(...given), wait);
    };
    later.cancel = () => clearTimeout(timer);
    return later;
}

/** Whether the user has asked the system for reduced motion. */
export function wantsLessMotion() {
    return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Stores JSON in the browser; if the browser forbids that, nothing is kept. */
export const memory = {
    read(name, otherwise = null) {
        try {
            const text = localStorage.getItem(`dreambooth_ext.${name}`);
            return text === null ? otherwise : JSON.parse(text);
        } catch {
            return otherwise;
        }
    },
    write(name, value) {
        try {
            localStorage.setItem(`dreambooth_ext.${name}`, JSON.stringify(value));
        } catch {
            // a full or forbidden storage: the form still works
        }
    },
};

/** Hands a text to the user as a file. */
export function download(name, text, type = "application/json") {
    saveBlob(name, new Blob([text], { type }));
}

/** Hands data to the user as a file. */
export function saveBlob(name, blob) {
    const address = URL.createObjectURL(blob);
    const link = element("a", { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
