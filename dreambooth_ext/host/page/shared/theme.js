// Light and dark without a WebUI around the page.

/** Without a WebUI around it, the page follows the system's theme by itself; `?__theme=dark` chooses, as in the WebUI. */
export function standAlone(place) {
    place.classList.add("db-standalone");
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const wish = new URLSearchParams(location.search).get("__theme");
    const follow = () => {
        const dark = wish ? wish === "dark" : system.matches;
        document.body.classList.toggle("dark", dark);
        document.documentElement.style.colorScheme = dark ? "dark" : "light";
    };
    system.addEventListener("change", follow);
    follow();
}
