// Requests: the latest records, page by page.

import { getJson, KeyMissing } from "./api.js";
import { badge, byId, h, notice, say, sync } from "./dom.js";
import { fullTime, money, ms, time, tokens } from "./format.js";
import { Polling } from "./polling.js";
import { describe } from "./record.js";

const PAGE = 100; // rows; there are never more in the document
const PATIENCE = 10; // tries to find a record that was just made: they are written in batches

const polling = new Polling(refresh, 3);
let pages = []; // the cursors of the page that is shown and of those before it; none for the first
let next = null;
let newest = 0; // number of the last question: answers of earlier ones come too late
let searching = false;
let opener = null; // what had the focus before the details were opened

export function start() {
  const form = byId("requests-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    first();
  });
  form.addEventListener("reset", () => setTimeout(first)); // after the fields are empty
  byId("requests-auto").addEventListener("change", first);
  byId("older").addEventListener("click", () => turn([...pages, next]));
  byId("newer").addEventListener("click", () => turn(pages.slice(0, -1)));
  const dialog = byId("record-dialog");
  byId("record-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  dialog.addEventListener("close", () => opener?.focus());
}

export function show(parameters) {
  const id = parameters.get("id");
  if (id) {
    for (const field of byId("requests-form").elements) if (field.name) field.value = "";
    byId("filter-id").value = id;
    find(id);
  } else first();
  polling.start();
}

export function hide() {
  polling.stop();
  newest++; // what is under way comes too late
  if (byId("record-dialog").open) byId("record-dialog").close();
}

const first = () => turn([]);

function turn(cursors) {
  pages = cursors;
  return load();
}

/** Only the first page has news; a form that is being filled in is left alone. */
function refresh() {
  const filling = byId("requests-form").contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox])");
  return byId("requests-auto").checked && !pages.length && !searching && !filling ? load() : null;
}

/** The records of the page that is wanted; null: there are none, or something is wrong, which is said. */
async function load() {
  const number = ++newest;
  const wanted = new URLSearchParams({ limit: PAGE });
  for (const [name, value] of new FormData(byId("requests-form"))) if (value.trim()) wanted.set(name, value.trim());
  if (pages.length) wanted.set("before", pages.at(-1));
  try {
    const answer = await getJson(`v1/requests?${wanted}`, { keyed: "yes" });
    if (number !== newest) return null;
    notice(byId("requests-error"), "");
    draw(answer, wanted);
    return answer.data;
  } catch (problem) {
    if (number !== newest) return null;
    notice(byId("requests-error"), h("div", { class: "row" }, problem.message,
      problem instanceof KeyMissing ? h("button", { type: "button", onclick: first }, "Enter key") : null));
    return null;
  }
}

/** Open the record of a request, which may not be written yet. */
async function find(id) {
  pages = [];
  searching = true;
  try {
    for (let tries = 0; tries < PATIENCE; tries++) {
      const records = await load();
      if (records === null) return;
      if (records.length) return open(records[0]);
      say(byId("requests-empty"), "Waiting for the record to be written …");
      const number = newest;
      await new Promise((resolve) => setTimeout(resolve, 400));
      if (number !== newest) return; // something else is wanted now
    }
    say(byId("requests-empty"), "There is no record of this request.");
  } finally {
    searching = false;
  }
}

function draw({ data, has_more: more, next: cursor }, wanted) {
  next = cursor;
  const filtered = [...wanted.keys()].some((name) => name !== "limit" && name !== "before");
  say(byId("requests-empty"), filtered ? "No records match." : "No requests yet. The Playground can send one.");
  byId("requests-empty").hidden = data.length > 0;
  byId("requests-box").hidden = data.length === 0;
  sync(byId("requests-table").tBodies[0], data.slice(0, PAGE), (record) => record.request_id, row);
  byId("requests-pager").hidden = !pages.length && !more;
  byId("newer").disabled = !pages.length;
  byId("older").disabled = !more;
  say(byId("page-number"), `Page ${pages.length + 1}`);
  say(byId("requests-updated"), `Updated ${time(Date.now() / 1000)}`);
  suggest(data);
}

/** What the records at hand have, as suggestions for the filters. */
function suggest(records) {
  for (const [id, name] of [["known-providers", "provider"], ["known-models", "model"]]) {
    const list = byId(id);
    const known = new Set([...list.children].map((option) => option.value));
    for (const record of records) {
      if (!record[name] || known.has(record[name]) || known.size >= 200) continue;
      known.add(record[name]);
      list.append(h("option", { value: record[name] }));
    }
  }
}

function row(record) {
  const button = h("button", { type: "button", class: "plain", title: fullTime(record.at) }, time(record.at));
  const number = (text) => h("td", { class: "num" }, text);
  const tried = record.attempts.length;
  const element = h("tr", { onclick: () => open(record, button) },
    h("th", { scope: "row" }, button),
    h("td", {}, badge(record.ending), record.status ? ` ${record.status}` : ""),
    h("td", {}, record.model_asked || (record.endpoint === "/v1/chat/completions" ? "auto" : record.endpoint)),
    h("td", {}, h("span", { class: "two" }, h("span", {}, record.model), h("span", { class: "muted" }, record.provider))),
    number(tried ? String(tried) : "–"), number(ms(record.first_content_ms)), number(ms(record.ms)),
    number(tokens(record.prompt_tokens, record.completion_tokens)), number(money(record.cost)),
    h("td", {}, record.project_id), h("td", {}, record.key));
  return { element };
}

function open(record, from = byId("filter-id")) {
  opener = from;
  byId("record").replaceChildren(describe(record));
  if (!byId("record-dialog").open) byId("record-dialog").showModal();
  byId("record-dialog").scrollTop = 0;
}
