// Starts the DreamBooth tab: the page itself is a set of modules that the extension's API serves, the same in every host.
onUiLoaded(function startDreambooth(attempt) {
    const place = gradioApp().querySelector("#dreambooth_ext");
    const tries = Number(attempt) || 0;
    if (!place || place.dataset.mounted) return;
    const page = new URL("./dreambooth/v1/page/main.js", document.baseURI);
    page.searchParams.set("version", place.dataset.version || "");
    if (tries) page.searchParams.set("attempt", tries); // browsers remember a module that could not be loaded
    import(page.href)
        .then((main) => main.mount(place))
        .catch((error) => {
            place.textContent = `The DreamBooth tab cannot be loaded: ${error.message}. Look for an error of the DreamBooth `
                + "extension in the WebUI's console; this page tries again by itself.";
            setTimeout(() => startDreambooth(tries + 1), Math.min(2000 * (tries + 1), 15000));
        });
});
