// How far a training is, before the page's own title, which the WebUI changes as well.

export class PageTitle {
    constructor() {
        this.own = document.title;
        this.text = "";
        this.shown = "";
        new MutationObserver(() => this.#changed()).observe(document.head, { childList: true, characterData: true, subtree: true });
    }

    /** @param {string} text before the title; "" for none */
    show(text) {
        if (text === this.text) return;
        this.text = text;
        this.#put();
    }

    /** Somebody else wrote a title: it is the page's own from now on. */
    #changed() {
        const now = document.title;
        if (now === (this.shown || this.own)) return;
        this.own = this.shown ? now.split(this.shown).join(this.own) : now;
        this.#put();
    }

    #put() {
        this.shown = this.text ? `${this.text} | ${this.own}` : "";
        const wanted = this.shown || this.own;
        if (document.title !== wanted) document.title = wanted;
    }
}
