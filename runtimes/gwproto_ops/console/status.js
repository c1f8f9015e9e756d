// Status: what is in rotation, what is not, and why.

import { contact, getJson } from "./api.js";
import { badge, byId, h, notice, say, sync } from "./dom.js";
import { count, left, ms, percent, plural, time } from "./format.js";
import { Polling } from "./polling.js";

const MEANING = {
  available: "Takes requests",
  degraded: "Takes requests, fewer or after failures",
  half_open: "One request tries whether it is well again",
  exhausted: "Its limits are used up for now",
  cooldown: "Rests, and gets no requests",
};
const TROUBLED = new Set(["cooldown", "exhausted", "half_open"]);

const polling = new Polling(poll, 2);
const ends = new Map(); // countdowns: target to the instant its cooldown ends, of performance.now()
let ticking = 0;

export function start() {}

export function show() {
  polling.start();
  ticking = setInterval(tick, 1000);
}

export function hide() {
  polling.stop();
  clearInterval(ticking);
}

async function poll() {
  try {
    draw(await getJson("v1/routing/status"));
    notice(byId("status-error"), "");
  } catch (problem) {
    const last = byId("status-targets").tBodies[0].rows.length ? ` What is shown is from ${time(contact().heardAt / 1000)}.` : "";
    notice(byId("status-error"), `${problem.message}${last} Trying again every 2 seconds.`);
  }
  byId("page-status").toggleAttribute("data-stale", !contact().heard);
  tick();
}

function draw({ fallback_order: targets, providers }) {
  const now = performance.now();
  ends.clear();
  for (const target of targets) if (target.cooldown_left > 0) ends.set(target.target, now + target.cooldown_left * 1000);
  say(byId("status-verdict"), verdict(Object.entries(providers)));
  const cards = Object.entries(providers).map(([name, summary]) => ({
    name, summary, mine: targets.filter((target) => target.provider === name),
  }));
  sync(byId("status-providers"), cards, ({ name }) => name, card);
  sync(byId("status-targets").tBodies[0], targets, (target) => target.target, row);
}

function verdict(providers) {
  const out = providers.filter(([, summary]) => TROUBLED.has(summary.status)).map(([name]) => name);
  if (!providers.length) return "No providers are configured.";
  if (out.length === providers.length) return "No provider can serve right now.";
  if (!out.length) return providers.length === 1 ? "The provider takes requests." : `All ${providers.length} providers take requests.`;
  return `${providers.length - out.length} of ${providers.length} providers take requests. Not now: ${out.join(", ")}.`;
}

function card() {
  const name = h("h3");
  const state = h("span");
  const reason = h("p", { class: "reason" });
  const success = h("dd");
  const first = h("dd");
  const room = h("dd");
  const flight = h("dd");
  const models = h("p", { class: "muted" });
  const fact = (term, value) => h("div", {}, h("dt", {}, term), value);
  const element = h("li", { class: "card" },
    h("div", { class: "card-head" }, name, state), reason,
    h("dl", { class: "facts" }, fact("Success", success), fact("First content", first), fact("Headroom", room), fact("In flight", flight)),
    models);
  return {
    element,
    update: ({ name: provider, summary, mine }) => {
      say(name, provider);
      element.dataset.state = summary.status;
      setBadge(state, summary.status);
      reason.dataset.until = Math.min(...mine.map((target) => ends.get(target.target) ?? 0));
      reason.dataset.reason = why(summary.reason);
      say(success, percent(summary.success_rate));
      say(first, ms(mine[0]?.ttft_ms));
      say(room, percent(mine[0]?.headroom));
      say(flight, count(summary.in_flight));
      say(models, `${plural(summary.targets, "target")}, ${plural(summary.attempts, "attempt")}`);
    },
  };
}

function row() {
  const cell = (label, attributes = {}) => h("td", { "data-label": label, ...attributes });
  const place = cell("#", { class: "num" });
  const name = h("strong");
  const where = h("span", { class: "muted" });
  const state = h("span");
  const reason = h("span", { class: "reason" });
  const success = cell("Success", { class: "num" });
  const first = cell("First content", { class: "num" });
  const meter = h("meter", { min: 0, max: 1, low: 0.2, optimum: 1 });
  const room = h("span");
  const used = cell("Requests", { class: "num" });
  const score = cell("Score", { class: "num" });
  const element = h("tr", {}, place,
    h("th", { scope: "row", "data-label": "Model" }, h("span", { class: "two" }, name, where)),
    cell("State"), success, first, cell("Headroom"), used, score);
  element.children[2].append(h("span", { class: "two" }, state, reason));
  element.children[5].append(h("span", { class: "meter" }, meter, room));
  return {
    element,
    update: (target, index) => {
      say(place, String(index + 1));
      say(name, target.model);
      say(where, target.provider + (target.upstream === target.model ? "" : ` · ${target.upstream}`) + (target.key ? ` · ${target.key}` : ""));
      setBadge(state, target.status);
      reason.dataset.until = ends.get(target.target) ?? 0;
      reason.dataset.reason = why(target.reason);
      say(success, percent(target.success_rate));
      say(first, ms(target.ttft_ms));
      meter.value = target.headroom;
      meter.setAttribute("aria-label", `Headroom of ${target.target}`);
      say(room, percent(target.headroom));
      say(used, count(target.attempts) + (target.daily_limit ? ` (${count(target.daily_used)} of ${count(target.daily_limit)} today)` : "") + (target.in_flight ? `, ${target.in_flight} now` : ""));
      say(score, target.score.toFixed(3));
    },
  };
}

/** A reason without its time, which is counted down beside it. */
const why = (reason) => reason.replace(/^cooling down for [\d.]+ s: /, "");

function setBadge(holder, state) {
  if (holder.dataset.state === state) return;
  holder.dataset.state = state;
  const mark = badge(state);
  mark.title = MEANING[state] ?? "";
  holder.replaceChildren(mark);
}

/** Countdowns go on between polls. */
function tick() {
  const now = performance.now();
  for (const element of byId("page-status").querySelectorAll(".reason")) {
    const rest = (Number(element.dataset.until) - now) / 1000;
    say(element, [element.dataset.reason, rest > 0 ? `back in ${left(rest)}` : ""].filter(Boolean).join(", "));
  }
  const { heard, heardAt } = contact();
  say(byId("status-updated"), heard ? `Updated ${time(heardAt / 1000)}` : `Last answer ${time(heardAt / 1000)}`);
}
