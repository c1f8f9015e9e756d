// Analytics: figures over time by provider, model or project.

import { askForKey, getJson, KeyMissing } from "./api.js";
import { Chart, bucketName, color } from "./charts.js";
import { byId, h, notice, say } from "./dom.js";
import { count, money, ms, percent, short, time } from "./format.js";
import { Polling } from "./polling.js";

const NOBODY = { project: "without a project", provider: "not served", model: "not served" };
const LISTS = { provider: "providers", model: "models", project: "projects" };
const STEPS = { hour: 3600, day: 86400 };

const polling = new Polling(load, 30);
let charts;
let shown = null; // the answer on the page
let newest = 0; // number of the last question: answers of earlier ones come too late

export function start() {
  charts = {
    requests: new Chart(byId("chart-requests"), { stacked: true, whole: true, format: short }),
    success: new Chart(byId("chart-success"), { max: 1.04, format: (share) => (share > 1 ? "" : `${Math.round(share * 1000) / 10} %`) }),
    tokens: new Chart(byId("chart-tokens"), { stacked: true, whole: true, format: short }),
    latency: new Chart(byId("chart-latency"), { format: ms }),
  };
  const form = byId("analytics-form");
  form.addEventListener("change", load);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
  for (const id of ["latency-of", "latency-percentile"]) byId(id).addEventListener("change", () => shown && drawLatency());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && drawCharts());
}

export function show() {
  polling.start();
}

export function hide() {
  polling.stop();
}

async function load() {
  const number = ++newest;
  const wanted = new URLSearchParams(new FormData(byId("analytics-form")));
  if (byId("analytics-project").value) wanted.set("project_id", byId("analytics-project").value);
  try {
    const answer = await getJson(`v1/analytics?${wanted}`, { keyed: "if given" });
    if (number !== newest) return;
    notice(byId("analytics-error"), "");
    shown = { ...answer, by: wanted.get("by") };
    draw();
  } catch (problem) {
    if (number !== newest) return;
    const missing = problem instanceof KeyMissing;
    if (missing) polling.stop(); // it would ask again and again
    notice(byId("analytics-error"), h("div", { class: "row" }, problem.message, missing ? h("button", { type: "button", onclick: enterKey }, "Enter key") : null));
  }
}

async function enterKey() {
  if (await askForKey()) polling.start();
}

function draw() {
  say(byId("analytics-updated"), `Updated ${time(Date.now() / 1000)}`);
  offerProjects(Object.keys(shown.projects));
  byId("analytics-empty").hidden = shown.totals.requests > 0;
  byId("analytics-body").hidden = shown.totals.requests === 0;
  if (!shown.totals.requests) return;
  drawTiles();
  drawCharts();
  drawTables();
}

function offerProjects(names) {
  const select = byId("analytics-project");
  const known = new Set([...select.options].map((option) => option.value));
  for (const name of names.sort()) if (name && !known.has(name)) select.append(h("option", { value: name }, name));
}

function drawTiles() {
  const { totals } = shown;
  const tile = (term, value, more = "") => h("div", { class: "tile" }, h("dt", {}, term), h("dd", {}, value), h("dd", { class: "muted" }, more));
  const latency = (figures) => [ms(figures?.p50), figures ? `p95 ${ms(figures.p95)}, p99 ${ms(figures.p99)}` : ""];
  byId("analytics-tiles").replaceChildren(
    tile("Requests", count(totals.requests), `${count(totals.failed)} failed, ${count(totals.refused)} refused`),
    tile("Success rate", percent(totals.success_rate), totals.client_closed ? `${count(totals.client_closed)} left by clients` : ""),
    tile("Tokens", short(totals.prompt_tokens + totals.completion_tokens), `${short(totals.prompt_tokens)} in, ${short(totals.completion_tokens)} out`),
    tile("Cost", money(totals.cost), "where priced"),
    tile("First content, median", ...latency(totals.first_content_ms)),
    tile("Whole answer, median", ...latency(totals.duration_ms)));
}

function drawCharts() {
  const step = STEPS[shown.bucket];
  const times = [];
  for (let at = Math.floor(shown.from / step) * step; at <= shown.to; at += step) times.push(at);
  shown.times = times;
  // Colours follow the names' order, so that a name keeps its own while the figures change.
  const lines = [...shown.series].sort((a, b) => (a.name < b.name ? -1 : 1)).map(({ name, points }, index) => {
    const at = new Map(points.map((point) => [point.at, point]));
    return { name: label(name), named: name !== "", color: name || !shown.by ? color(index) : color(10), points: times.map((time) => at.get(time) ?? null) };
  });
  shown.lines = lines;
  const served = shown.by === "provider" || shown.by === "model" ? lines.filter(({ named }) => named) : lines;
  const values = (of, those = lines) => those.map((line) => ({ ...line, values: line.points.map((point) => (point === null ? null : of(point))) }));
  charts.requests.draw(times, shown.bucket, values((point) => point.requests));
  charts.success.draw(times, shown.bucket, values((point) => point.success_rate, served));
  charts.tokens.draw(times, shown.bucket, values((point) => point.prompt_tokens + point.completion_tokens));
  drawLatency();
  byId("analytics-legend").hidden = !shown.by;
  byId("analytics-legend").replaceChildren(...lines.map((line) => {
    const mark = h("i");
    mark.style.background = line.color;
    return h("li", {}, mark, line.name);
  }));
}

function drawLatency() {
  const what = byId("latency-of").value;
  const all = shown.by === ""; // one line for each percentile, then
  byId("latency-percentile").hidden = all;
  const lines = all
    ? ["p50", "p95", "p99"].map((name, index) => latencyLine({ ...shown.lines[0], name, color: color(index) }, what, name))
    : shown.lines.map((line) => latencyLine(line, what, byId("latency-percentile").value));
  charts.latency.draw(shown.times, shown.bucket, lines);
}

const latencyLine = (line, what, percentile) => ({ ...line, values: line.points.map((point) => point?.[what]?.[percentile] ?? null) });

const label = (name) => name || (shown.by ? NOBODY[shown.by] : "all");

const COLUMNS = [
  ["Requests", (f) => count(f.requests)],
  ["Success", (f) => percent(f.success_rate)],
  ["Failed", (f) => count(f.failed)],
  ["Refused", (f) => count(f.refused)],
  ["Tokens in", (f) => count(f.prompt_tokens)],
  ["Tokens out", (f) => count(f.completion_tokens)],
  ["Cost", (f) => money(f.cost)],
  ["p50", (f) => ms(f.first_content_ms?.p50)],
  ["p95", (f) => ms(f.first_content_ms?.p95)],
  ["p99", (f) => ms(f.first_content_ms?.p99)],
  ["p50", (f) => ms(f.duration_ms?.p50)],
  ["p95", (f) => ms(f.duration_ms?.p95)],
  ["p99", (f) => ms(f.duration_ms?.p99)],
];

function drawTables() {
  const { by } = shown;
  say(byId("breakdown-title"), by ? `By ${by}` : "By day");
  const days = shown.daily.map((day) => [bucketName(Date.parse(day.date) / 1000, "day"), day]).reverse();
  const rows = by
    ? Object.entries(shown[LISTS[by]]).sort(([, a], [, b]) => b.requests - a.requests).slice(0, 200).map(([name, figures]) => [label(name), figures])
    : days;
  fill(byId("breakdown"), by ? by[0].toUpperCase() + by.slice(1) : "Day", rows);
  byId("daily-box").hidden = !by;
  fill(byId("daily"), "Day", days);
}

function fill(table, first, rows) {
  const of = (what) => h("th", { scope: "colgroup", colspan: 3 }, what);
  table.tHead.replaceChildren(
    h("tr", {}, h("td", { colspan: COLUMNS.length - 5 }), of("First content"), of("Whole answer")),
    h("tr", {}, h("th", { scope: "col" }, first), COLUMNS.map(([name]) => h("th", { scope: "col", class: "num" }, name))));
  table.tBodies[0].replaceChildren(...rows.map(([name, figures]) =>
    h("tr", {}, h("th", { scope: "row" }, name), COLUMNS.map(([, value]) => h("td", { class: "num" }, value(figures))))));
}
