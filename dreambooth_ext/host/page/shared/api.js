// The client of the JSON API. Every request has a time limit, and every failure says what is wrong and what to do.

import { reviver } from "./localised.js";
import { TEXTS } from "./texts.js";

/** A failed request. `status` 0: there was no answer; `problems`: those of a refused configuration. */
export class Failure extends Error {
    constructor(message, { remedy = "", status = 0, field = "", problems = [] } = {}) {
        super(message);
        this.name = "Failure";
        Object.assign(this, { remedy, status, field, problems });
    }

    /** Whether a retry may help: there was no answer, or the server was not ready. */
    get isLost() {
        return this.status === 0 || this.status === 502 || this.status === 504;
    }
}

const root = new URL("../../", import.meta.url); // .../dreambooth/v1/: also below a --subpath

/** The address of a route, each part of its path escaped. */
export function address(parts, query = {}) {
    const path = parts.map((part) => encodeURIComponent(String(part))).join("/");
    const found = new URL(path, root);
    for (const [name, value] of Object.entries(query)) {
        if (value !== null && value !== undefined && value !== "") found.searchParams.set(name, value);
    }
    return found.href;
}

async function ask(method, parts, { query, body, timeout = 15_000 } = {}) {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), timeout);
    try {
        const answer = await fetch(address(parts, query), {
            method,
            signal: limit.signal,
            headers: body === undefined ? {} : { "Content-Type": "application/json" },
            body: body === undefined ? undefined : JSON.stringify(body),
            credentials: "same-origin",
            cache: "no-store",
        });
        const content = await readBody(answer);
        if (!answer.ok) throw refusal(answer.status, content);
        return content;
    } catch (error) {
        if (error instanceof Failure) throw error;
        if (limit.signal.aborted) throw new Failure(TEXTS.failures.timeout, { remedy: TEXTS.failures.timeoutRemedy });
        throw new Failure(TEXTS.failures.lost, { remedy: TEXTS.failures.lostRemedy });
    } finally {
        clearTimeout(timer);
    }
}

async function readBody(answer) {
    const text = await answer.text();
    if (!text) return {};
    try {
        return JSON.parse(text, reviver);
    } catch {
        return answer.ok ? { text } : {}; // a proxy's own page, say
    }
}

function refusal(status, content) {
    const problems = Array.isArray(content.problems) ? content.problems : [];
    const known = TEXTS.failures.byStatus[status];
    const message = content.error || problems[0]?.message || content.detail || known?.[0] || TEXTS.failures.unknown;
    const remedy = content.remedy || (content.error ? "" : known?.[1]) || "";
    return new Failure(typeof message === "string" ? message : JSON.stringify(message), {
        remedy, status, problems, field: content.field || "",
    });
}

export const api = {
    get: (parts, query, timeout) => ask("GET", parts, { query, timeout }),
    post: (parts, body = {}, timeout) => ask("POST", parts, { body, timeout }),
    delete: (parts, { query, timeout } = {}) => ask("DELETE", parts, { query, timeout }),

    /**
     * Sends a file. `fetch` reports no upload progress, so this is an XMLHttpRequest.
     * @param {string[]} parts
     * @param {Blob} file
     * @param {{type: string, query?: object, progress?: (fraction: number) => void, timeout?: number}} about
     */
    upload(parts, file, { type, query, progress = () => {}, timeout = 300_000 }) {
        return new Promise((resolve, reject) => {
            const request = new XMLHttpRequest();
            request.open("PUT", address(parts, query));
            request.timeout = timeout;
            request.setRequestHeader("Content-Type", type);
            request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
            request.onerror = () => reject(new Failure(TEXTS.failures.lost, { remedy: TEXTS.failures.lostRemedy }));
            request.ontimeout = () => reject(new Failure(TEXTS.failures.timeout, { remedy: TEXTS.failures.timeoutRemedy }));
            request.onload = () => {
                let content = {};
                try {
                    content = JSON.parse(request.responseText, reviver);
                } catch {
                    // an empty answer, or a proxy's page
                }
                if (request.status >= 200 && request.status < 300) resolve(content);
                else reject(refusal(request.status, content || {}));
            };
            request.send(file);
        });
    },
};
