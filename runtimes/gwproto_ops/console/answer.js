// One answer as it arrives: its text, reasoning and tool calls, and what the gateway did for it.

import { badge, h, say } from "./dom.js";
import { count, ms } from "./format.js";

const HEADERS = [
  ["x-gateway-provider", "Provider"],
  ["x-gateway-model", "Model"],
  ["x-gateway-attempts", "Attempts"],
  ["x-gateway-reasoning-effort", "Reasoning effort"],
  ["x-gateway-dropped-params", "Left out"],
  ["x-gateway-shared", "Shared"],
  ["server-timing", "Server timing"],
  ["x-gateway-request-id", "Request id"],
];

export class Answer {
  message = null; // for the conversation, once there is something to keep
  #began = performance.now();
  #firstAt = null;
  #ending = "complete";
  #text = "";
  #reasoning = "";
  #extra = null;
  #calls = [];
  #usage = null;
  #finish = "";
  #parts = {};
  #actions;

  constructor(actions) {
    this.#actions = actions;
    const parts = this.#parts;
    parts.who = h("h2", { class: "who" }, "Answer");
    parts.thought = h("div", { class: "text muted" });
    parts.thinking = h("details", { class: "thinking", hidden: true }, h("summary", {}, "Reasoning"), parts.thought);
    parts.text = h("div", { class: "text" });
    parts.wait = h("p", { class: "waiting" }, "…");
    parts.calls = h("div", { class: "calls" });
    parts.problem = h("div");
    parts.facts = h("p", { class: "facts-line muted" });
    parts.headers = h("div");
    this.element = h("article", { class: "said assistant" },
      parts.who, parts.thinking, parts.text, parts.wait, parts.calls, parts.problem, parts.facts, parts.headers);
  }

  /** The request goes out now: what came before was waiting for the key. */
  sent() {
    this.#began = performance.now();
  }

  head(headers) {
    const provider = headers.get("x-gateway-provider");
    say(this.#parts.who, provider ? `${provider} · ${headers.get("x-gateway-model")}` : "Answer");
    const rows = HEADERS.filter(([name]) => headers.has(name)).map(([name, label]) =>
      h("div", {}, h("dt", {}, label), h("dd", {}, headers.get(name))));
    if (!rows.length) return;
    const id = headers.get("x-gateway-request-id");
    this.#parts.headers.replaceChildren(h("details", { class: "what", ontoggle: (event) => event.target.open && event.target.scrollIntoView({ block: "nearest" }) },
      h("summary", {}, "What the gateway did"),
      h("dl", { class: "facts" }, rows),
      id ? h("p", {}, h("a", { href: `#requests?id=${encodeURIComponent(id)}` }, "Open its record")) : null));
  }

  chunk(chunk) {
    if (chunk.usage) this.#usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? {};
    if (choice.finish_reason) this.#finish = choice.finish_reason;
    if (delta.extra_content) this.#extra = delta.extra_content;
    const thought = delta.reasoning_content ?? "";
    const text = (delta.content ?? "") + (delta.refusal ?? "");
    if (thought || text || delta.tool_calls) {
      this.#firstAt ??= performance.now();
      this.#parts.wait.hidden = true;
    }
    if (thought) {
      this.#reasoning += thought;
      this.#parts.thinking.hidden = false;
      this.#parts.thought.append(thought);
    }
    if (text) {
      this.#text += text;
      this.#parts.text.append(text);
    }
    for (const piece of delta.tool_calls ?? []) this.#call(piece);
  }

  #call(piece) {
    const call = (this.#calls[piece.index ?? 0] ??= this.#newCall());
    if (piece.id) call.id = piece.id;
    if (piece.extra_content) call.extra = piece.extra_content;
    call.name += piece.function?.name ?? "";
    call.arguments += piece.function?.arguments ?? "";
    say(call.title, call.name);
    say(call.code, call.arguments);
  }

  #newCall() {
    const call = { id: "", name: "", arguments: "", extra: null };
    call.title = h("strong");
    call.code = h("pre", { class: "code" });
    call.result = h("textarea", { rows: 2, "aria-label": "Result of the tool", placeholder: "Result to send back" });
    this.#parts.calls.append(h("div", { class: "call" }, h("p", {}, "Calls ", call.title), call.code, call.result));
    return call;
  }

  /** `error` has message, type, code. */
  failed(error, requestId) {
    this.#ending = "failed";
    const kind = [error.type, error.code].filter(Boolean).join(" · ");
    this.#parts.problem.replaceChildren(h("div", { class: "notice error", role: "alert" },
      h("p", {}, h("strong", {}, error.message || "Something went wrong."), this.#text ? " The answer above is not complete." : ""),
      kind || error.param ? h("p", { class: "code" }, kind + (error.param ? ` · ${error.param}` : "")) : null,
      requestId ? h("p", {}, "Request id ", h("a", { href: `#requests?id=${encodeURIComponent(requestId)}` }, requestId)) : null));
    this.#offerAgain();
  }

  stopped() {
    this.#ending = "stopped";
    this.#parts.problem.replaceChildren(h("p", {}, badge("client_closed", "stopped")));
    this.#offerAgain();
  }

  cutOff() {
    this.failed({ message: "The answer was cut off: the connection ended before its end.", code: "no [DONE]" });
  }

  #offerAgain() {
    this.#parts.problem.append(h("button", { type: "button", class: "quiet again", onclick: this.#actions.again }, "Try again"));
  }

  finish() {
    const parts = this.#parts;
    parts.wait.hidden = true;
    const calls = this.#calls.filter(Boolean);
    if (this.#text || calls.length) {
      this.message = { role: "assistant", content: this.#text || null };
      if (this.#reasoning) this.message.reasoning_content = this.#reasoning;
      if (this.#extra) this.message.extra_content = this.#extra;
      // Calls that were cut off cannot be answered.
      if (calls.length && this.#ending === "complete") {
        this.message.tool_calls = calls.map((call) => ({
          id: call.id, type: "function", function: { name: call.name, arguments: call.arguments },
          ...(call.extra ? { extra_content: call.extra } : {}),
        }));
        parts.calls.append(h("button", { type: "button", onclick: this.#actions.sendResults }, calls.length > 1 ? "Send results" : "Send result"));
      } else if (!this.#text) this.message = null;
    }
    const total = performance.now() - this.#began;
    const facts = [];
    if (this.#firstAt !== null) facts.push(`first content ${ms(this.#firstAt - this.#began)}`, `total ${ms(total)}`);
    if (this.#usage) {
      const { prompt_tokens, completion_tokens, completion_tokens_details: details } = this.#usage;
      facts.push(`${count(prompt_tokens)} + ${count(completion_tokens)} tokens` + (details?.reasoning_tokens ? ` (${count(details.reasoning_tokens)} reasoning)` : ""));
    }
    if (this.#finish && this.#finish !== "stop") facts.push(`finish: ${this.#finish.replaceAll("_", " ")}`);
    say(parts.facts, facts.join(" · "));
  }

  /** What the tools gave, as messages; none once they are part of the conversation. */
  results() {
    if (!this.message?.tool_calls) return [];
    return this.#calls.filter(Boolean).map((call) => ({ role: "tool", tool_call_id: call.id, content: call.result.value }));
  }

  summary() {
    const words = { complete: "Answer complete", failed: "The answer failed", stopped: "Stopped" };
    return [words[this.#ending], this.#parts.facts.textContent].filter(Boolean).join(", ") + ".";
  }
}
