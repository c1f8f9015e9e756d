/** Calls `work` at once and then `seconds` after each end of it, while the page is visible and until stopped. */
export class Polling {
  #work;
  #seconds;
  #timer = 0;
  #running = false;
  #busy = false;

  constructor(work, seconds) {
    this.#work = work;
    this.#seconds = seconds;
    document.addEventListener("visibilitychange", () => this.#turn());
  }

  start() {
    this.#running = true;
    this.#turn();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  async #turn() {
    clearTimeout(this.#timer);
    if (!this.#running || this.#busy || document.hidden) return;
    this.#busy = true;
    try {
      await this.#work();
    } finally {
      this.#busy = false;
      if (this.#running) this.#timer = setTimeout(() => this.#turn(), this.#seconds * 1000);
    }
  }
}
