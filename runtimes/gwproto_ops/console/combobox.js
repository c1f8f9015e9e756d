// A text field with suggestions (WAI-ARIA Authoring Practices, "Combobox", list autocomplete).

import { badge, h } from "./dom.js";

export class Combobox {
  #input;
  #list;
  #options = []; // {value, detail, state}
  #shown = [];
  #active = -1;
  #typed = null; // while the list is wanted

  constructor(input, list) {
    this.#input = input;
    this.#list = list;
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => this.#open(""));
    input.addEventListener("input", () => this.#open(input.value));
    input.addEventListener("blur", () => this.#close());
    input.addEventListener("keydown", (event) => this.#key(event));
  }

  offer(options) {
    const late = !this.#options.length && this.#typed !== null && document.activeElement === this.#input;
    this.#options = options;
    if (late) this.#open(this.#typed); // somebody types faster than the suggestions come
  }

  #open(typed) {
    this.#typed = typed;
    const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
    this.#shown = this.#options.filter(({ value, detail }) => {
      const text = `${value} ${detail}`.toLowerCase();
      return words.every((word) => text.includes(word));
    }).slice(0, 100);
    this.#list.replaceChildren(...this.#shown.map((option, index) => this.#row(option, index)));
    this.#list.hidden = !this.#shown.length;
    this.#input.setAttribute("aria-expanded", String(!this.#list.hidden));
    this.#move(-1);
  }

  #row({ value, detail, state }, index) {
    return h("li", {
      role: "option", id: `${this.#list.id}-${index}`, "aria-selected": "false",
      onmousedown: (event) => {
        event.preventDefault(); // the field keeps the focus
        this.#choose(index);
      },
    }, h("span", { class: "two" }, h("strong", {}, value), h("span", { class: "muted" }, detail)), state ? badge(state) : "");
  }

  #close() {
    this.#typed = null;
    this.#list.hidden = true;
    this.#active = -1;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }

  #move(index) {
    this.#list.children[this.#active]?.setAttribute("aria-selected", "false");
    this.#active = index;
    const row = this.#list.children[index];
    if (!row) return this.#input.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    row.scrollIntoView({ block: "nearest" });
    this.#input.setAttribute("aria-activedescendant", row.id);
  }

  #choose(index) {
    this.#input.value = this.#shown[index].value;
    this.#close();
  }

  #key(event) {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowUp") {
      event.preventDefault();
      if (this.#list.hidden) this.#open("");
      const step = key === "ArrowDown" ? 1 : -1;
      const { length } = this.#shown;
      if (length) this.#move(this.#active < 0 && step < 0 ? length - 1 : (this.#active + step + length) % length);
    } else if (key === "Enter" && this.#active >= 0) {
      event.preventDefault();
      this.#choose(this.#active);
    } else if (key === "Escape" && !this.#list.hidden) {
      event.preventDefault();
      this.#close();
    }
  }
}
