// ESLint over the tab: its modules, and the script by which the WebUI starts them. Run by pre-commit (CONTRIBUTING.md).
// Imports nothing, so that it works wherever ESLint itself was installed.

const READ_ONLY = "readonly";
const BROWSER = [
    "AbortController", "AbortSignal", "Blob", "CSS", "Event", "MutationObserver", "Node", "Notification", "ResizeObserver", "URL",
    "URLSearchParams", "XMLHttpRequest", "cancelAnimationFrame", "clearInterval", "clearTimeout", "console", "document",
    "fetch", "getComputedStyle", "localStorage", "location", "navigator", "requestAnimationFrame", "setInterval",
    "setTimeout", "window",
];
const WEBUI = ["gradioApp", "onUiLoaded"];
const named = (names) => Object.fromEntries(names.map((name) => [name, READ_ONLY]));

const RULES = {
    // what is wrong wherever it stands
    "constructor-super": "error",
    "for-direction": "error",
    "getter-return": "error",
    "no-async-promise-executor": "error",
    "no-class-assign": "error",
    "no-compare-neg-zero": "error",
    "no-cond-assign": "error",
    "no-const-assign": "error",
    "no-constant-condition": "error",
    "no-debugger": "error",
    "no-dupe-args": "error",
    "no-dupe-class-members": "error",
    "no-dupe-else-if": "error",
    "no-dupe-keys": "error",
    "no-duplicate-case": "error",
    "no-duplicate-imports": "error",
    "no-empty": "error",
    "no-eval": "error",
    "no-fallthrough": "error",
    "no-func-assign": "error",
    "no-implicit-globals": "error",
    "no-import-assign": "error",
    "no-loss-of-precision": "error",
    "no-redeclare": "error",
    "no-self-assign": "error",
    "no-self-compare": "error",
    "no-setter-return": "error",
    "no-sparse-arrays": "error",
    "no-this-before-super": "error",
    "no-undef": "error",
    "no-unreachable": "error",
    "no-unsafe-finally": "error",
    "no-unsafe-negation": "error",
    "no-unsafe-optional-chaining": "error",
    "no-unused-private-class-members": "error",
    "no-unused-vars": ["error", { args: "after-used", caughtErrors: "all" }],
    "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
    "no-useless-catch": "error",
    "no-useless-escape": "error",
    "use-isnan": "error",
    "valid-typeof": "error",
    // habits
    "eqeqeq": "error",
    "no-else-return": "error",
    "no-shadow": "error",
    "no-throw-literal": "error",
    "no-useless-rename": "error",
    "no-useless-return": "error",
    "no-var": "error",
    "object-shorthand": "error",
    "prefer-const": "error",
    "prefer-template": "error",
};

export default [
    {
        files: ["dreambooth_ext/host/page/*.js", "dreambooth_ext/host/page/*/*.js"],
        languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: named(BROWSER) },
        rules: RULES,
    },
    {
        files: ["javascript/*.js"],
        languageOptions: { ecmaVersion: 2022, sourceType: "script", globals: named([...BROWSER, ...WEBUI]) },
        rules: RULES,
    },
];
