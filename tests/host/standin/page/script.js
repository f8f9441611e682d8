// What extensions' scripts find in a WebUI's page.
function gradioApp() {
    const app = document.getElementsByTagName("gradio-app")[0];
    if (!app) return document;
    app.getElementById = (id) => document.getElementById(id);
    return app.shadowRoot || app;
}

var opts = {};
const callbacks = {update: [], afterUpdate: [], loaded: [], tabChange: [], options: []};
function onUiUpdate(callback) { callbacks.update.push(callback); }
function onAfterUiUpdate(callback) { callbacks.afterUpdate.push(callback); }
function onUiLoaded(callback) { callbacks.loaded.push(callback); }
function onUiTabChange(callback) { callbacks.tabChange.push(callback); }
function onOptionsChanged(callback) { callbacks.options.push(callback); }

function execute(list, argument) {
    for (const callback of list) {
        try {
            callback(argument);
        } catch (error) {
            console.error("error running callback", callback, ":", error);
        }
    }
}

function get_uiCurrentTab() {
    return gradioApp().querySelector("#tabs > .tab-nav > button.selected");
}

function get_uiCurrentTabContent() {
    return gradioApp().querySelector('#tabs > .tabitem[id^=tab_]:not([style*="display: none"])');
}

var desiredCheckpointName = null;
function selectCheckpoint(name) {
    desiredCheckpointName = name;
    gradioApp().getElementById("change_checkpoint").click();
}

function set_theme(theme) {
    const address = new URL(window.location.href);
    if (address.searchParams.has("__theme")) return;
    address.searchParams.set("__theme", theme);
    window.location.replace(address);
}

function restart_reload() {
    document.body.innerHTML = "<h1>Reloading...</h1>";
    const ask = () => fetch("./internal/ping")
        .then((answer) => (answer.ok ? location.reload() : setTimeout(ask, 500)))
        .catch(() => setTimeout(ask, 500));
    setTimeout(ask, 2000);
    return [];
}

function translate(node) {
    const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    for (let text = walker.currentNode; text; text = walker.nextNode()) {
        const known = text.nodeType === Node.TEXT_NODE && window.localization[text.textContent.trim()];
        if (known) text.textContent = known;
    }
}

document.addEventListener("DOMContentLoaded", () => {
    let loaded = false, tab = null, later = null, settings = "";
    new MutationObserver((records) => {
        if (!loaded && gradioApp().querySelector("#txt2img_prompt")) {
            loaded = true;
            execute(callbacks.loaded);
        }
        if (Object.keys(window.localization).length) {
            for (const record of records) record.addedNodes.forEach(translate);
        }
        execute(callbacks.update, records);
        clearTimeout(later);
        later = setTimeout(() => execute(callbacks.afterUpdate), 200);
        if (get_uiCurrentTab() && get_uiCurrentTab() !== tab) {
            tab = get_uiCurrentTab();
            execute(callbacks.tabChange);
        }
        const area = gradioApp().querySelector("#settings_json textarea");
        if (area && area.value && area.value !== settings) {
            settings = area.value;
            opts = JSON.parse(settings);
            execute(callbacks.options);
        }
    }).observe(gradioApp(), {childList: true, subtree: true});
});
