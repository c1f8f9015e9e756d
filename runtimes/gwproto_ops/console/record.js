// One record in full: what happened, when, and why it went where it went.

import { badge, h } from "./dom.js";
import { count, fullTime, money, ms } from "./format.js";

const WEIGHTS = { success: 0.6, headroom: 0.2, latency: 0.15, fit: 0.05 };

/** What to show of a record. */
export function describe(record) {
  return h("div", { class: "record" }, facts(record), attempts(record), decision(record));
}

function facts(record) {
  const yes = (flag) => (flag ? "yes" : null);
  const pairs = [
    ["Time", fullTime(record.at)],
    ["Request id", record.request_id],
    ["Ending", h("span", {}, badge(record.ending), record.status ? ` ${record.status}` : "", record.error ? ` ${record.error}` : "")],
    ["Endpoint", `${record.method} ${record.endpoint}${record.stream ? ", streamed" : ""}`],
    ["Asked for", record.model_asked],
    ["Served by", [record.provider, record.model].filter(Boolean).join(" · ")],
    ["Project", record.project_id],
    ["Key", record.key],
    ["Key rejected", record.rejected],
    ["Client", record.client],
    ["First content", known(record.first_content_ms) && ms(record.first_content_ms)],
    ["Total", ms(record.ms)],
    ["Tokens in", known(record.prompt_tokens) && count(record.prompt_tokens) + (record.cached_tokens ? ` (${count(record.cached_tokens)} cached)` : "")],
    ["Tokens out", known(record.completion_tokens) && count(record.completion_tokens) + (record.reasoning_tokens ? ` (${count(record.reasoning_tokens)} reasoning)` : "")],
    ["Cost", known(record.cost) && money(record.cost)],
    ["Usage is partial", yes(record.partial_usage)],
    ["Shared answer", yes(record.shared)],
    ["Left out", (record.dropped_params ?? []).join(", ")],
  ];
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

const known = (value) => value !== null && value !== undefined;

function attempts(record) {
  if (!record.attempts.length) return null;
  const end = Math.max(record.ms, ...record.attempts.map((one) => one.started_ms + one.ms), 0.001);
  return h("section", {}, h("h3", {}, "Attempts"),
    h("ol", { class: "timeline" }, record.attempts.map((one) => attempt(one, end))));
}

function attempt(one, end) {
  const bar = h("span", { class: "bar", "data-state": one.failure ? "failed" : one.lost ? "lost" : "completed" });
  bar.style.left = `${(one.started_ms / end) * 100}%`;
  bar.style.width = `${Math.max(0.6, (one.ms / end) * 100)}%`;
  const track = h("span", { class: "track", "aria-hidden": "true" }, bar);
  if (known(one.first_content_ms)) {
    const mark = h("span", { class: "mark" });
    mark.style.left = `${((one.started_ms + one.first_content_ms) / end) * 100}%`;
    track.append(mark);
  }
  const words = [
    `started at ${ms(one.started_ms)}`, `took ${ms(one.ms)}`,
    known(one.first_content_ms) && `first content after ${ms(one.first_content_ms)}`,
    known(one.status) && `status ${one.status}`, one.failure && one.failure.replaceAll("_", " "), one.code,
    one.hedge && "hedge", one.lost && "lost the race", one.probe && "probe", one.panic && "panic",
    known(one.reused) && (one.reused ? "warm connection" : "new connection"), one.key && `key ${one.key}`,
  ];
  return h("li", {}, h("div", {}, h("strong", {}, `${one.provider} · ${one.model}`), " ", badge(one.failure ? "failed" : one.lost ? "lost" : "completed", one.failure ? "failed" : one.lost ? "lost" : "served")),
    track, h("p", { class: "muted" }, words.filter(Boolean).join(", ")));
}

function decision(record) {
  if (!record.candidates?.length) return null;
  const rank = (one) => (one.target === record.chosen ? 2 : known(one.score) ? one.score : -1);
  const rows = [...record.candidates].sort((a, b) => rank(b) - rank(a)).slice(0, 200);
  const number = (value) => h("td", { class: "num" }, known(value) ? value.toFixed(2) : "–");
  return h("section", {}, h("h3", {}, "Why this one"),
    h("p", { class: "muted" }, "Score = ", Object.entries(WEIGHTS).map(([term, weight]) => `${weight.toFixed(2)} · ${term}`).join(" + "),
      ". Those whose best scores are close take turns."),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Candidates" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Candidate"), h("th", { scope: "col" }, "Decision"),
        ["Score", "Success", "Headroom", "Latency", "Fit"].map((name) => h("th", { scope: "col", class: "num" }, name)))),
      h("tbody", {}, rows.map((one) => h("tr", { class: one.target === record.chosen ? "chosen" : null },
        h("th", { scope: "row" }, one.target),
        h("td", {}, one.target === record.chosen ? badge("completed", "chosen") : one.reason),
        number(one.score), number(one.terms?.success), number(one.terms?.headroom), number(one.terms?.latency), number(one.terms?.fit)))))));
}
